# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""What the demo shows, and what of it runs in a browser."""
