"""Reports of a verification: JSON, HTML and JUnit."""
