-- The service's database: the same facts under other names, without what the service does not need.

CREATE TABLE reservations (
    order_id   bigint PRIMARY KEY,
    item       text NOT NULL,
    pieces     integer NOT NULL,
    state      text NOT NULL,
    changed_at timestamptz NOT NULL
);

CREATE TABLE items (
    code       text PRIMARY KEY,
    available  integer NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE price_list (
    item       text PRIMARY KEY,
    amount     numeric(8,2) NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now()
);

-- Whole old rows, by which a conflict is found.
ALTER TABLE items REPLICA IDENTITY FULL;
ALTER TABLE price_list REPLICA IDENTITY FULL;

-- The capture: of what the service writes.
CREATE ROLE cdc LOGIN REPLICATION PASSWORD 'cdc';
GRANT USAGE ON SCHEMA public TO cdc;
GRANT SELECT ON items, price_list TO cdc;
CREATE PUBLICATION pycdc_inventory FOR TABLE items, price_list;

-- What follows the monolith; it makes its bookkeeping, schema pycdc.
CREATE ROLE apply LOGIN PASSWORD 'apply';
GRANT USAGE ON SCHEMA public TO apply;
GRANT SELECT, INSERT, UPDATE, DELETE ON reservations, items, price_list TO apply;
GRANT CREATE ON DATABASE inventory TO apply;
GRANT EXECUTE ON FUNCTION pg_replication_origin_create(text), pg_replication_origin_oid(text),
    pg_replication_origin_session_setup(text), pg_replication_origin_xact_reset() TO apply;
