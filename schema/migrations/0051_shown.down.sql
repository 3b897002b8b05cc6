drop function lockgate.shown(uuid, text);
-- What was shown stays in the record, as the step that it is.
update lockgate.run_steps set kind = 'step' where kind = 'show';
alter domain lockgate.step_kind drop constraint step_kind_check;
alter domain lockgate.step_kind add constraint step_kind_check check (value in ('fan_out', 'step', 'undoable', 'transaction',
    'sleep', 'signal', 'child', 'version', 'select', 'publish'));
comment on column lockgate.run_steps.kind is
    'fan_out: covers many items; step, undoable, transaction: code; sleep, signal, child: waits; version, select: decisions; publish: a command';
