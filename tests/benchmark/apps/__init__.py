"""The servers' side of the benchmark: the same echo, written for each of them.

Compression is off and no limit on the size of messages is in the way; everything else is as each
library has it by default.
"""

from __future__ import annotations

#: Bytes; far above the largest message that is sent.
MAX_MESSAGE_SIZE = 64 * 1024 * 1024
