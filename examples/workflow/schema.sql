-- One database: what a service owns that sells what it has.
CREATE TABLE stock (
    sku      text PRIMARY KEY,
    on_hand  integer NOT NULL CHECK (on_hand >= 0)
);
CREATE TABLE payments (
    order_id text PRIMARY KEY,
    amount   integer NOT NULL
);
CREATE TABLE orders (
    id       text PRIMARY KEY,
    sku      text NOT NULL,
    pieces   integer NOT NULL,
    state    text NOT NULL DEFAULT 'placed'
);
