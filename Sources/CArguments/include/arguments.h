// SPDX-License-Identifier: Apache-2.0

// The arguments of main. Swift's CommandLine reads /proc/self/cmdline, and has none where /proc is not mounted.

#ifndef CARGUMENTS_H
#define CARGUMENTS_H

int main_argument_count(void);

// `index` is below the count.
const char *main_argument(int index);

#endif
