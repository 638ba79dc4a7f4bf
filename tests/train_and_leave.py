# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""train.py FLAGS, and then: does this process still have threads of a process group?  Exit code 3 if it does.

Such a thread is a race with the end of the interpreter, which hangs or aborts some processes; see
`hf_autoencoders.training.launch.leave_process_groups`. So that the race is lost where it can be, no thread gets the
interpreter from another one that does not wait.
"""

import sys

from training_runs import gloo_threads, train_here


if __name__ == "__main__":
    sys.setswitchinterval(1000)  # seconds
    code = train_here(sys.argv[1:])
    sys.exit(code or (3 if gloo_threads() else 0))
