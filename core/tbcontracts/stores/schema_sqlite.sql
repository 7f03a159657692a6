-- The books of many scopes. Every row carries the version of its scope at which it was written last,
-- so that a process reads again only what others changed. Amounts are whole numbers, times are
-- seconds since the epoch, columns named *_json hold what `tbcontracts.stores.codec` wrote.

CREATE TABLE scope (
    id              INTEGER PRIMARY KEY,
    name            TEXT NOT NULL UNIQUE,
    version         INTEGER NOT NULL,
    seq             INTEGER NOT NULL,
    now_s           REAL NOT NULL,
    pool            INTEGER NOT NULL,
    total           INTEGER NOT NULL,
    closed          INTEGER NOT NULL,
    unit            TEXT  -- what all amounts are in, once a contract was opened
) STRICT;

CREATE TABLE account (
    scope_id        INTEGER NOT NULL REFERENCES scope (id),
    agent           TEXT NOT NULL,
    version         INTEGER NOT NULL,
    contract_json   TEXT NOT NULL,
    tracked         INTEGER NOT NULL,
    place           INTEGER NOT NULL,  -- in the order of opening
    finished        INTEGER NOT NULL,
    allocated       INTEGER NOT NULL,
    consumed        INTEGER NOT NULL,
    held            INTEGER NOT NULL,
    unmeasured      INTEGER NOT NULL,
    denials         INTEGER NOT NULL,
    expired_holds   INTEGER NOT NULL,
    owed            INTEGER NOT NULL,  -- what a smaller contract could not take back
    confidence      REAL,
    buckets_json    TEXT NOT NULL,
    denial_json     TEXT,  -- the refusal that was the last thing written of the agent
    PRIMARY KEY (scope_id, agent)
) STRICT, WITHOUT ROWID;

CREATE INDEX account_version ON account (scope_id, version);

CREATE TABLE hold (
    scope_id        INTEGER NOT NULL REFERENCES scope (id),
    hold_id         TEXT NOT NULL,
    version         INTEGER NOT NULL,
    agent           TEXT NOT NULL,
    amount          INTEGER NOT NULL,
    charged         INTEGER NOT NULL,
    cost            INTEGER NOT NULL,  -- what was counted as cost for `charged`
    unpriced        INTEGER NOT NULL,
    status          TEXT NOT NULL,
    enforcement     TEXT NOT NULL,
    expires_at_s    REAL NOT NULL,
    outcome_json    TEXT,
    PRIMARY KEY (scope_id, hold_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX hold_version ON hold (scope_id, version);
CREATE INDEX hold_open ON hold (scope_id) WHERE status = 'open';

CREATE TABLE used_key (
    scope_id        INTEGER NOT NULL REFERENCES scope (id),
    key             TEXT NOT NULL,
    command_json    TEXT NOT NULL,
    reply_json      TEXT NOT NULL,
    until_s         REAL NOT NULL,
    PRIMARY KEY (scope_id, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX used_key_until ON used_key (scope_id, until_s);

CREATE TABLE journal (
    scope_id        INTEGER NOT NULL REFERENCES scope (id),
    seq             INTEGER NOT NULL,
    at_s            REAL NOT NULL,
    kind            TEXT NOT NULL,
    agent           TEXT,
    amount          INTEGER NOT NULL,
    hold_id         TEXT,
    moves_json      TEXT NOT NULL,
    allocated       INTEGER NOT NULL,
    consumed        INTEGER NOT NULL,
    held            INTEGER NOT NULL,
    pool            INTEGER NOT NULL,
    facts_json      TEXT NOT NULL,
    PRIMARY KEY (scope_id, seq)
) STRICT, WITHOUT ROWID;
