"""Changes to a config that a test makes."""

import copy


def with_value(config, path, value):
    """A copy of `config` with `value` at the dotted `path`; numbers in it are indices of lists.

    Mappings that are missing on the path are added.
    """
    config = copy.deepcopy(config)
    *steps, last = (int(step) if step.isdigit() else step for step in path.split("."))
    target = config
    for step in steps:
        target = target.setdefault(step, {}) if isinstance(target, dict) else target[step]
    target[last] = value
    return config
