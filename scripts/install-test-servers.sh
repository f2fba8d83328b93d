#!/usr/bin/env bash
# Install what the tests' servers need and this machine lacks: Postgres with TLS, contrib and PostGIS, Java, Maven, and
# a browser for the pages.
# Does that where apt-get is there and the user is root; elsewhere it says what is missing and what that means.
# Never fails for something that is missing: the tests that need it are skipped with the reason.
set -uo pipefail

minimum_java=17

has_postgres() {
    local server
    for server in /usr/lib/postgresql/*/bin/postgres /usr/pgsql-*/bin/postgres; do
        [ -x "$server" ] && has_all "$server" && return 0
    done
    command -v pg_config >/dev/null && has_all "$(pg_config --bindir)/postgres"
}

# Of one server: the extensions that contrib brings, PostGIS, and TLS. pgvector comes with the wheel's servers.
has_all() {
    local extension share
    [ -x "$1" ] || return 1
    "$(dirname "$1")/pg_config" --configure 2>/dev/null | grep -qE -e '--with-(openssl|ssl=)' || return 1
    share=$("$(dirname "$1")/pg_config" --sharedir 2>/dev/null) || return 1
    for extension in hstore citext ltree postgis; do
        [ -e "$share/extension/$extension.control" ] || return 1
    done
}

has_java() {
    local version
    version=$(java -version 2>&1 | sed -nE 's/.* version "([0-9]+).*/\1/p' | head -n 1)
    [ -n "$version" ] && [ "$version" -ge "$minimum_java" ]
}

has_maven() {
    command -v mvn >/dev/null
}

has_browser() {
    command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null
}

list_missing() {
    has_postgres || echo "postgresql postgresql-contrib postgresql-postgis"
    has_java || echo "default-jre-headless"
    has_maven || echo "maven"
    has_browser || echo "chromium"
}

# Debian starts a server on port 5432 with the package. The tests start their own, so nobody needs it.
forbid_main_cluster() {
    dpkg --status postgresql-common >/dev/null 2>&1 && return
    apt-get install -y --no-install-recommends postgresql-common || return
    sed -i 's/^#\?create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf
}

install_packages() {
    export DEBIAN_FRONTEND=noninteractive
    apt-get update || return
    case "$*" in *postgresql*) forbid_main_cluster || return ;; esac
    apt-get install -y --no-install-recommends "$@"
}

explain() {
    has_postgres || echo "  Postgres with TLS, hstore, citext, ltree and PostGIS: tests that need them are skipped; others run on the wheel's."
    has_java || echo "  Java $minimum_java or newer: without it there is no Kafka and no schema registry, unless by Docker or address."
    has_maven || echo "  Maven: it fetches Kafka and the schema registry once, into the cache folder."
    has_browser || echo "  Chromium: tests of the pages are skipped without it."
    echo "  On Debian and Ubuntu: apt-get install postgresql postgresql-contrib postgresql-postgis default-jre-headless maven chromium"
    echo "  Or name servers by PYCDC_TEST_POSTGRES, PYCDC_TEST_KAFKA and PYCDC_TEST_REGISTRY."
}

read -ra missing <<<"$(list_missing | tr '\n' ' ')"
if [ "${#missing[@]}" -eq 0 ]; then
    exit 0
fi
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    echo "Installing for the tests' servers: ${missing[*]}"
    install_packages "${missing[@]}" </dev/null || echo "apt-get failed; its reason stands above." >&2
else
    echo "Not installed, because that needs root and apt-get: ${missing[*]}" >&2
fi
if [ -n "$(list_missing)" ]; then
    echo "Missing for the tests' servers:" >&2
    explain >&2
fi
