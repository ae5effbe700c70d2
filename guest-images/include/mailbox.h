/*
 * The contract between a guest image and the host: where things stand in a mailbox.
 * Read by the assembler (the guests) and by the C compiler (the host), so it holds
 * nothing but numbers. guest-images/README.md tells the story.
 */
#ifndef GUEST_MAILBOX_H
#define GUEST_MAILBOX_H

/* Writing any value to this port says: done, look into the mailbox. */
#define GUEST_DOORBELL_PORT 0x4b

/* What the host asks: byte offsets into the mailbox. */
#define MAILBOX_REQUEST 0x00   /* u32, one of REQUEST_* */
#define MAILBOX_RING 0x04      /* u32, 0 or 3: where the request is carried out (long mode only) */
#define MAILBOX_ARGUMENT0 0x08 /* u64 */
#define MAILBOX_ARGUMENT1 0x10 /* u64 */
#define MAILBOX_ARGUMENT2 0x18 /* u64 */
/*
 * u64, how many TSC cycles a loop may take. The guest adds its TSC when the loop begins, which makes it the TSC at
 * which the loop ends. The host writes 0 at any time to end the loop early.
 */
#define MAILBOX_END 0x20

/* What the guest answers. */
#define MAILBOX_STATUS 0x40      /* u32, one of STATUS_* */
#define MAILBOX_VECTOR 0x44      /* u32, exception vector if STATUS_FAULT */
#define MAILBOX_ERROR_CODE 0x48  /* u32, its error code, 0 where there is none */
#define MAILBOX_FAULT_IP 0x50    /* u64, where it was raised */
#define MAILBOX_RESULT0 0x58     /* u64 */
#define MAILBOX_RESULT1 0x60     /* u64 */
#define MAILBOX_TSC 0x68         /* u64, the TSC between the two version reads of a clock read */
#define MAILBOX_SNAPSHOT 0x70    /* 8 x u32, the record that clock read saw */
#define MAILBOX_LOOP 0x100       /* what a loop saw, LOOP_* below are offsets from here */

/* One reading inside a loop: the TSC and the 32 bytes of the record. */
#define READING_TSC 0x00
#define READING_RECORD 0x08
#define READING_SIZE 0x28

#define LOOP_READS 0x00          /* u64, readings made */
#define LOOP_BACKWARDS 0x08      /* u64, readings below the one before */
#define LOOP_NEGATIVE 0x10       /* u64, readings below the offset, as signed 64 bit */
#define LOOP_WORST 0x18          /* s64, the largest step back, <= 0 */
#define LOOP_UNSTABLE 0x20       /* u64, readings without PVCLOCK_TSC_STABLE_BIT */
#define LOOP_VERSIONS 0x28       /* u64, times the version differed from the reading before */
#define LOOP_ODD 0x30            /* u64, tries begun again: the version was odd, or another one after */
#define LOOP_MINIMUM 0x38        /* s64, the smallest reading less the offset */
#define LOOP_WORST_BEFORE 0x40   /* u64, clock value before the worst step */
#define LOOP_WORST_BEFORE_TSC 0x48 /* u64, and its TSC */
#define LOOP_BEYOND 0x50         /* u64, steps back larger than the update before them took */
#define LOOP_EXCESS 0x58         /* u64, by how much the worst of those was larger */
#define LOOP_FIRST 0x60          /* reading */
#define LOOP_LAST 0x90           /* reading */
#define LOOP_WORST_AFTER 0xc0    /* reading */
#define LOOP_WITNESSED 0xe8      /* u64, changes of the word that the loop watches besides its record */
#define LOOP_FOREIGN 0xf0        /* u64, times the maximum had come from another vCPU */
#define LOOP_TORN 0xf8           /* u64, readings that differ from an earlier one under the same even version */
#define LOOP_STRETCHES 0x100     /* u64, stretches in the trace */
#define LOOP_DROPPED 0x108       /* u64, stretches that the trace had no room for */
#define LOOP_TORN_BEFORE 0x110   /* record, of the first torn pair */
#define LOOP_TORN_AFTER 0x130    /* record */
#define LOOP_COST 0x150          /* u64, cycles for MEASURED_READS complete readings, the least of all rounds */
#define LOOP_BARE_COST 0x158     /* u64, the same for RDTSC and the loads alone */
#define LOOP_SIZE 0x160

/*
 * The trace area behind a vCPU's clock pages: a stretch for each version of a record that a loop saw, in order. The
 * last place is used again when there is no more room.
 */
#define TRACE_FROM_MAILBOX 0x3000
#define TRACE_STRETCHES 256
#define STRETCH_RECORD 0x00      /* the record, as the first reading of the version saw it */
#define STRETCH_FIRST_TSC 0x20   /* u64, the TSC of the first reading, between the two looks at the version */
#define STRETCH_LAST_TSC 0x28    /* u64, and of the last one */
#define STRETCH_READS 0x30       /* u64 */
#define STRETCH_SIZE 0x40

/* Where contenders meet: 16 aligned bytes with the largest value and its TSC, and who has come. */
#define RACE_MAXIMUM 0x00
#define RACE_MAXIMUM_TSC 0x08
#define RACE_ARRIVED 0x10        /* u32, how many are there; they start together */
#define RACE_EXPECTED 0x14       /* u32, how many will come */
#define RACE_DONE 0x18           /* u32, how many met RACE_GOAL values of others; they go on until they are stopped */
#define RACE_GOAL 1000
/* How often a racer looks for the others before it starts without them: some tenths of a second. */
#define RACE_LOOKS 0x1000000

/* Requests to the agent, in every CPU mode. Ring 3 serves those marked 3. */
#define REQUEST_NOTHING 0        /* 3 */
#define REQUEST_RDMSR 1          /* argument0 index -> result0 */
#define REQUEST_WRMSR 2          /* argument0 index, argument1 value */
#define REQUEST_READ_CLOCK 3     /* 3; argument0 record -> tsc, snapshot */
#define REQUEST_WRMSR_READ_CLOCK 4 /* WRMSR, then without an exit READ_CLOCK of argument2 */
#define REQUEST_RDTSC 5          /* 3; -> result0 */
#define REQUEST_CPUID 6          /* argument0 leaf, argument1 index -> result0 eax|ebx<<32, result1 */
#define REQUEST_PEEK 7           /* 3; argument0 address -> result0, 32 bits */
#define REQUEST_POKE 8           /* 3; argument0 address, argument1 value, 32 bits */
#define REQUEST_HLT 9
#define REQUEST_UD2 10           /* 3; an invalid instruction, to try the fault path */
#define REQUEST_HYPERCALL 11     /* argument2 number, | HYPERCALL_AMD for VMMCALL; argument0 a0, argument1 a1 -> result0, signed */
/*
 * Nesting, in long mode. argument1: 1 by SVM, 0 by VMX. ENTER_L2: argument0 TSC offset -> result0 0, and the agent is its own
 * guest from then on; else why not. LEAVE_L2 -> result0 the reason for the exit, and the agent is in L1.
 */
#define REQUEST_ENTER_L2 12
#define REQUEST_LEAVE_L2 13
#define REQUEST_COUNT 14

#define HYPERCALL_AMD 0x80000000

/* The other request to the sampler, beside REQUEST_NOTHING: time the reading itself. */
#define REQUEST_MEASURE 0x100
#define MEASURED_READS 4096
#define MEASURED_ROUNDS 8

/* Status. The host writes PENDING; whatever else it then finds is checked. */
#define STATUS_PENDING 0
#define STATUS_DONE 1
#define STATUS_FAULT 2
#define STATUS_NEVER_EVEN 3      /* the version stayed odd: the snapshot is what stood there */
#define STATUS_UNKNOWN_REQUEST 4
#define STATUS_LEFT_L2 5         /* L2 came back to L1 in the middle of a request; result0 the reason */

/* How often a guest looks again at an odd version before it says NEVER_EVEN. */
#define CLOCK_ATTEMPTS 4096

/* Head of an image: two u32 offsets from its first byte, eight zeroes, then code. */
#define IMAGE_ENTRY 0x0
#define IMAGE_FAULTS 0x4         /* 32 stubs, FAULT_STUB_SIZE bytes each, one per exception vector */
#define IMAGE_HEADER_SIZE 0x10
#define FAULT_STUB_SIZE 16

#endif
