//! What a user writes: a workflow, a source of items, and the messages made of them.
