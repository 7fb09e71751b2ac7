# Copyright (c) the MEV platform's authors. Apache-2.0 (see LICENSE)
"""What a machine is made of, read from /proc, /sys and a few commands; nothing is judged here."""
