"""The façade: Envoy's configuration as files, the weights of routes, and the guard that takes traffic away again."""
