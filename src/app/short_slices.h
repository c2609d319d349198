// Asks the kernel to let the calling thread run soon after it wakes.
// A thread of the normal policy runs in slices (2.8 ms is common), and one that wakes may have to wait for the end of
// the slice of whoever has its CPU: another process, or our own control thread. The fair scheduler since Linux 6.12
// lets a thread ask for shorter slices: the same share of the CPU, but sooner. Needs no privilege; older kernels and
// sandboxes ignore or refuse it, and nothing is lost then.
#pragma once

namespace penstock::app {

void ask_for_short_slices();

}  // namespace penstock::app
