#ifndef WEAVE_CLINUX_H
#define WEAVE_CLINUX_H

// What Swift cannot import of the Linux headers: variadic calls, function-like macros, structures behind `_GNU_SOURCE`.
// One header for each room that needs some.
#include "linux_link.h"
#include "linux_packet.h"

#endif
