-- The sample of compose.yaml: two tables, some rows, and a role with the least rights that capture needs.

CREATE TABLE customers (
    id         integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    name       text NOT NULL,
    email      text NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE orders (
    id          bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    customer_id integer NOT NULL REFERENCES customers,
    status      text NOT NULL DEFAULT 'new',
    total       numeric(10,2) NOT NULL,
    items       jsonb NOT NULL,
    placed_at   timestamptz NOT NULL DEFAULT now()
);

-- Whole old rows for orders, so that consumers see what changed.
ALTER TABLE orders REPLICA IDENTITY FULL;

INSERT INTO customers (name, email) VALUES
    ('Ada', 'ada@example.com'),
    ('Grace', 'grace@example.com');

INSERT INTO orders (customer_id, total, items) VALUES
    (1, 19.90, '[{"sku": "cup", "quantity": 2}]'),
    (2, 49.00, '[{"sku": "jug", "quantity": 1}]');

CREATE PUBLICATION pycdc_shop FOR TABLE customers, orders;

CREATE ROLE cdc LOGIN REPLICATION PASSWORD 'cdc';
GRANT USAGE ON SCHEMA public TO cdc;
GRANT SELECT ON customers, orders TO cdc;
