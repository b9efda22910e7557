"""One fault: when it strikes, whether the command goes on, and how long that takes."""

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from benchmarks.chaos.command import StuckError
from benchmarks.chaos.faults import Fault, Target


@dataclass
class Struck:
    """What became of one fault."""

    fault: str
    round: str
    """The run or search."""
    step: int
    """How far it was: a training's step, a search's validated epochs."""
    seconds: float | None = None
    """Until something beyond that was stored; None where nothing was."""
    repeated: int | None = None
    """Steps that were trained again; None where that is not known."""
    exit_code: int | None = None
    """With which the command ended by the fault; None where it went on by itself."""
    problem: str = ""
    compared: bool = False
    """Whether what was learnt was compared with an undisturbed twin."""

    @property
    def is_well(self) -> bool:
        """It went on, and what it has learnt was compared and is equal."""
        return not self.problem and self.seconds is not None and self.compared


@dataclass(frozen=True)
class Course:
    """How a command gets on, read from its storage."""

    name: str
    stored: Callable[[], int]
    """What another start would go on from."""
    reached: Callable[[], int]
    """How far it is, by its status; at most a little behind."""
    spread: int
    """A fault strikes up to as far beyond what is stored."""

    def strike(self, fault: Fault, target: Target) -> Struck:
        """Let more be stored, strike, start the command again where the fault has ended it, and wait for more."""
        command, before = target.command, self.stored()
        result = Struck(fault.name, self.name, before)
        try:
            command.wait_until(lambda: self.stored() > before, "more was stored")
            stored, further = self.stored(), target.draw.randrange(self.spread)
            command.wait_until(
                lambda: self.reached() >= stored + further or self.stored() > stored, "it came a little further"
            )
            result.step = max(self.reached(), self.stored())
            began = monotonic()
            fault.strike(target)
            if fault.must_end:
                command.wait_for_end()
            elif fault.may_end:
                command.wait_until(lambda: self._is_beyond(target, result.step + self.spread), "it ended", may_end=True)
            result.exit_code = command.exit_code
            if result.exit_code is not None:
                if result.exit_code not in fault.may_end:
                    raise StuckError(f"the command ended with {result.exit_code}")
                # What the ended command stored at its end does not count.
                result.step = max(result.step, self.stored())
                command.start()
            command.wait_until(lambda: self.stored() > result.step, "more was stored than before the fault")
            result.seconds = round(monotonic() - began, 2)
        except StuckError as error:
            result.problem = str(error)
        return result

    def _is_beyond(self, target: Target, step: int) -> bool:
        return target.command.exit_code is not None or self.stored() > step
