"""The rules (CEL) of a CustomResourceDefinition, evaluated as an API server does."""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import celpy
from celpy.celparser import CELParseError


@dataclass
class Judged:
    """What came of an object's rules."""

    problems: list[str] = field(default_factory=list)
    evaluated: int = 0
    unevaluated: list[str] = field(default_factory=list)
    """Rules that the interpreter does not know enough for; nothing is known about them."""

    def judge(self, rules: list[dict[str, Any]], path: str, value: Any, old: Any = None) -> None:
        """Evaluate the rules of one place in the object; `old` is what was there before, None: nothing."""
        for rule in rules:
            text = str(rule["rule"])
            if old is None and "oldSelf" in text:
                continue  # about a change, and nothing has changed
            try:
                program = compiled(text)
            except CELParseError:
                self.unevaluated.append(f"{path}: {text}")
                continue
            known = {"self": celpy.json_to_cel(value)}
            if old is not None:
                known["oldSelf"] = celpy.json_to_cel(old)
            try:
                holds = bool(program.evaluate(known))
            except celpy.CELEvalError as error:
                if not str(error.args[0]).startswith("no such member"):
                    self.unevaluated.append(f"{path}: {text}")
                    continue
                holds = False  # a field that is not there: an API server refuses the object too
            self.evaluated += 1
            if not holds:
                self.problems.append(f"{path}: {rule.get('message', text)}")


@lru_cache(maxsize=256)
def compiled(rule: str) -> celpy.Runner:
    """A rule ready to be evaluated. Raises CELParseError."""
    environment = _environment()
    return environment.program(environment.compile(rule))


@lru_cache(maxsize=1)
def _environment() -> celpy.Environment:
    return celpy.Environment()
