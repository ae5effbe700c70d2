// SPDX-License-Identifier: Apache-2.0

#include "arguments.h"

#include <stdlib.h>
#include <unistd.h>

static int count;
static char **arguments;

// glibc gives a constructor what it gives main, in static executables too. This one runs before those of the Swift
// runtime.
__attribute__((constructor(101))) static void keep(int argc, char **argv) {
    count = argc;
    arguments = argv;
    // In a static executable the runtime looks for its backtracer by way of /proc, and aborts if it finds no path. With
    // a path given it looks for none.
    if (access("/proc/self/exe", F_OK) != 0)
        setenv("SWIFT_BACKTRACE", "enable=no,swift-backtrace=/nonexistent", 0);
}

int main_argument_count(void) { return count; }

const char *main_argument(int index) { return arguments[index]; }
