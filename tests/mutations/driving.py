"""Who drives, who works, and who is stopped."""

from __future__ import annotations

from tests.mutations.fault import of

BUCKET = "tests/cluster/test_objects.py::test_a_note_in_a_bucket_is_changed_by_who_knows_it"
LEASE = "tests/cluster/test_lease.py"
PROMISES = "tests/cluster/test_promises.py"
SCHEDULER = "tests/cluster/test_scheduler.py"

FAULTS = (
    *of(
        "cluster/lease.py",
        (
            "lease: a dead process of this machine lives on",
            "return self.machine != _machine() or _start_of(self.pid) == self.start",
            "return True",
            LEASE,
        ),
        (
            "lease: a pid used again is alive",
            "_start_of(self.pid) == self.start",
            "_start_of(self.pid) >= 0",
            LEASE,
        ),
        ("lease: no heartbeat is needed", "if now - self.beat > DEAD_SECONDS:", "if False:", LEASE),
        (
            "lease: a living holder is overrun",
            "if holder is None or not self._is_alive(holder, now):",
            "if True:",
            LEASE,
        ),
        ("lease: being replaced is not noticed", "self._taken_away.set()", "pass", LEASE),
        (
            "lease: another's note is deleted",
            "if _holder(now, self._id):",
            "if True:",
            LEASE,
        ),
        (
            "lease: clocks of other machines are believed",
            "if self._clock() - holder.beat > _CLOCKS_SECONDS:",
            "if self._clock() - holder.beat > self._dead_seconds:",
            LEASE,
        ),
        (
            "lease: a driver elsewhere is not looked at",
            "limit = time.monotonic() + self._dead_seconds",
            "limit = time.monotonic()",
            LEASE,
        ),
        (
            "lease: the heart does not beat",
            "                self._renew()\n            except",
            "                pass\n            except",
            LEASE,
        ),
        (
            "lease: one of another machine is not looked at",
            "if self._note.read().content != before.content:",
            "if False:",
            LEASE,
        ),
        (
            "lease: leftovers are not swept",
            "        self._thread.start()\n        self._store.sweep()",
            "        self._thread.start()",
            LEASE,
        ),
    ),
    *of(
        "pipeline/store/shared_note.py",
        (
            "lease: written whatever it says",
            "if self.read().content != seen.content:",
            "if False:",
            LEASE,
        ),
        (
            "lease: no lock",
            "yield _lock(file.fileno(), path)",
            "yield True",
            LEASE,
        ),
        (
            "lease: not read back where there are no locks",
            "time.sleep(max(_SETTLE_SECONDS, _SETTLE_WRITES * took))\n",
            "return NoteVersion(content)\n",
            LEASE,
        ),
        (
            "lease: read back too early",
            "time.sleep(max(_SETTLE_SECONDS, _SETTLE_WRITES * took))",
            "time.sleep(0.1)",
            LEASE,
        ),
    ),
    *of(
        "pipeline/store/keys.py",
        (
            "lease: a server does not compare what is there",
            'else {"IfMatch": tag}',
            "else {}",
            BUCKET,
        ),
        (
            "lease: a server does not compare where nothing is",
            '{"IfNoneMatch": "*"} if tag is None',
            "{} if tag is None",
            BUCKET,
        ),
    ),
    *of(
        "cluster/driver/session.py",
        (
            "takeover: a replaced driver goes on",
            "return self._interrupts.requested or lease.lost",
            "return self._interrupts.requested",
            PROMISES,
        ),
        (
            "takeover: a replaced driver ends as if all were well",
            "            if lease.lost:\n                raise",
            "            if False:\n                raise",
            PROMISES,
        ),
        (
            "takeover: a replaced driver sweeps",
            "if not lease.lost:\n            with",
            "if True:\n            with",
            PROMISES,
        ),
        (
            "resume: what is not listed is not rendered again",
            "missing = [work for work in self._queue.missing() if work not in self._given_up]",
            "missing: list[Work] = []",
            PROMISES,
        ),
        (
            "quarantine: lifted never",
            "if work in self._noted:",
            "if False:",
            "tests/cluster/test_cli.py::test_a_poison_tile_is_quarantined_named_and_tried_again",
        ),
        (
            "quarantine: not noted",
            "functools.partial(quarantine.put, self._store, work, reasons)",
            "lambda: None",
            "tests/cluster/test_cli.py::test_a_poison_tile_is_quarantined_named_and_tried_again",
        ),
    ),
    *of(
        "cluster/workers/serial.py",
        (
            "disk: a store that fails is the tile's fault",
            "return Unwritable(worker, describe(error))",
            "return Failed(worker, describe(error))",
            PROMISES,
        ),
    ),
    *of(
        "cluster/workers/interrupts.py",
        ("interrupts: a second signal is ignored", "os._exit(EXIT_CODE)", "pass", PROMISES),
        (
            "interrupts: one key press counts twice",
            "if now - self._since < _SAME_PRESS_SECONDS:",
            "if False:",
            PROMISES,
        ),
        (
            "interrupts: the first signal is ignored",
            "            raise KeyboardInterrupt",
            "            pass",
            PROMISES,
        ),
    ),
    *of(
        "cluster/scheduling/scheduler.py",
        (
            "scheduler: one strike too many",
            "if len(strikes) >= self.rules.strikes:\n            self.quarantined",
            "if len(strikes) > self.rules.strikes:\n            self.quarantined",
            SCHEDULER,
        ),
        ("scheduler: preemption is a strike", "None if preempted else reason", "reason", SCHEDULER),
        (
            "scheduler: a full disk is a strike",
            "self._take_back(attempt, worker, now, None)\n\n",
            "self._take_back(attempt, worker, now, reason)\n\n",
            SCHEDULER,
        ),
        (
            "scheduler: a raced tile counts twice",
            "self._busy[other].redundant = True",
            "pass",
            SCHEDULER,
        ),
        (
            "scheduler: tiles are raced at once",
            "if now - started <= self.rules.duplicate_factor * typical:",
            "if False:",
            SCHEDULER,
        ),
        ("scheduler: no tile is raced", "self._duplicate(now)", "pass", SCHEDULER),
        (
            "scheduler: a deadline despite longer tiles",
            "rules.deadline_factor * typical, 3 * self._pace.longest",
            "rules.deadline_factor * typical",
            SCHEDULER,
        ),
        (
            "scheduler: the deadline does not grow",
            "patience * float(2 ** len(self._strikes.get(tile, ())))",
            "patience",
            SCHEDULER,
        ),
        (
            "scheduler: retries at once",
            "self._retry_delay(len(strikes)) if reason is not None else 0.0",
            "0.0",
            SCHEDULER,
        ),
        (
            "scheduler: a crash loop does not back off",
            "self._spawn_at = now + self._respawn_delay()",
            "self._spawn_at = now",
            SCHEDULER,
        ),
        (
            "scheduler: a full disk never ends it",
            "if self._write_rounds >= self.rules.write_tries:",
            "if False:",
            SCHEDULER,
        ),
    ),
    *of(
        "cluster/workers/processes.py",
        (
            "interrupts: Ray's agents live on",
            "            process.kill()",
            "            process.is_running()",
            PROMISES,
        ),
        (
            "interrupts: what a raylet leaves lives on",
            "_leaving[:] = _started_in(folders)",
            "_leaving.clear()",
            PROMISES,
        ),
        (
            "interrupts: every child is taken for Ray's",
            "if any(folder in part for part in child.cmdline() for folder in folders):",
            "if True:",
            PROMISES,
        ),
    ),
)
