/* What every long-mode image shares. RDI holds the mailbox, RBP the top of the stack; both stay. */
#include "include/mailbox.h"

/* The exception stubs: each pushes its vector and goes to `fault`. */
.macro FAULT_STUBS
    .balign FAULT_STUB_SIZE, 0x90
faults:
    .set vector, 0
    .rept 32
    .balign FAULT_STUB_SIZE, 0x90
    /* Vectors 8, 10-14, 17, 21, 29 and 30 push an error code; the others get a zero for it. */
    .if ((1 << vector) & 0x60227d00) == 0
    pushq $0
    .endif
    pushq $vector
    jmp fault
    .set vector, vector + 1
    .endr
.endm

/* The image's head and, right behind it, the exception stubs. */
.macro LONG_IMAGE_HEADER name
    .section .rodata
    .balign 16
    .globl guest_\name\()_begin
    .globl guest_\name\()_end
    .code64
guest_\name\()_begin:
    .long entry - guest_\name\()_begin
    .long faults - guest_\name\()_begin
    .long 0
    .long 0
    FAULT_STUBS
.endm

/* A fault becomes data: into the mailbox, stack emptied, doorbell. One at \expected instead leads to \wanted. */
.macro LONG_FAULT_HANDLER resume, expected, wanted
fault:
    .ifnb \expected
    leaq \expected(%rip), %rax
    cmpq %rax, 0x10(%rsp)
    je \wanted
    .endif
    popq %rax
    movl %eax, MAILBOX_VECTOR(%rdi)
    popq %rax
    movl %eax, MAILBOX_ERROR_CODE(%rdi)
    popq %rax
    movq %rax, MAILBOX_FAULT_IP(%rdi)
    movq %rbp, %rsp
    movl $STATUS_FAULT, MAILBOX_STATUS(%rdi)
    jmp \resume
.endm

/* IRETQ to ring 3 at \target with IOPL 3, so that ring 3 may ring the doorbell by itself. */
.macro ENTER_RING3 target
    pushq $0x23
    leaq -0x200(%rbp), %rax
    pushq %rax
    pushq $0x3002
    pushq $0x1b
    leaq \target(%rip), %rax
    pushq %rax
    iretq
.endm

/* RDX = the TSC. Uses RAX. */
.macro READ_TSC
    rdtsc
    shlq $32, %rdx
    orq %rax, %rdx
.endm

/* Begins a loop that LEAVE_IF_OVER or REPEAT ends. Locked: the host may end the loop now. Uses RAX, RDX. */
.macro BEGIN_LOOP
    READ_TSC
    lock addq %rdx, MAILBOX_END(%rdi)
.endm

/*
 * Jumps to \over if the loop is over at the TSC in \tsc. A loop has a last TSC because the host cannot end it while the
 * host's own threads get no CPU, perhaps because of this loop. It counts besides, for its TSC may be set back.
 */
.macro LEAVE_IF_OVER tsc, over
    cmpq MAILBOX_END(%rdi), \tsc
    jae \over
.endm

/* The end of a loop's body: jumps to \again argument2 times, unless the loop is over before. */
.macro REPEAT again, tsc
    LEAVE_IF_OVER \tsc, 1f
    decq MAILBOX_ARGUMENT2(%rdi)
    jnz \again
1:
.endm

/* After a READ_RECORD in vain: jumps to \again, unless the loop is over. The attempts count as readings. Uses RAX, RDX. */
.macro TRY_AGAIN again
    READ_TSC
    LEAVE_IF_OVER %rdx, 1f
    subq $CLOCK_ATTEMPTS, MAILBOX_ARGUMENT2(%rdi)
    ja \again
1:
.endm

/*
 * One read of the record at RSI under the version protocol:
 * R8 version | pad0 << 32, R9 tsc_timestamp, R10 system_time, R11D multiplier, R12D shift | flags << 8, RDX the TSC.
 * Uses RAX, RCX (attempts left). Jumps to \never if the version stays odd. \fence is lfence where
 * another CPU may be updating the record, nothing in ring 0, which some backends emulate without it.
 */
.macro READ_RECORD never, fence
    movl $CLOCK_ATTEMPTS, %ecx
1:  movq 0x00(%rsi), %r8
    testl $1, %r8d
    jnz 2f
    \fence
    READ_TSC
    movq 0x08(%rsi), %r9
    movq 0x10(%rsi), %r10
    movl 0x18(%rsi), %r11d
    movl 0x1c(%rsi), %r12d
    \fence
    cmpl 0x00(%rsi), %r8d
    je 3f
2:  incq LOOP_ODD(%r15)
    decl %ecx
    jnz 1b
    jmp \never
3:
.endm

/* RAX cycles become RAX nanoseconds: (RAX << shift) * multiplier >> 32, modulo 2^64. Uses RBX, RCX. */
.macro SCALE_CYCLES
    movsbl %r12b, %ecx
    testl %ecx, %ecx
    js 1f
    shlq %cl, %rax
    jmp 2f
1:  negl %ecx
    shrq %cl, %rax
2:  movl %eax, %ebx
    shrq $32, %rax
    imulq %r11, %rax
    imulq %r11, %rbx
    shrq $32, %rbx
    addq %rbx, %rax
.endm

/* RAX = the clock's value at RDX, from the record in the registers. Uses RBX, RCX. */
.macro CLOCK_VALUE
    movq %rdx, %rax
    subq %r9, %rax
    SCALE_CYCLES
    addq %r10, %rax
.endm

/* Counts the reading in the registers if it is without PVCLOCK_TSC_STABLE_BIT. */
.macro COUNT_UNSTABLE
    testl $0x100, %r12d
    jnz 1f
    incq LOOP_UNSTABLE(%r15)
1:
.endm

/* Stores the record that READ_RECORD left in the registers at \at(\base). */
.macro STORE_RECORD at, base
    movq %r8, (\at)(\base)
    movq %r9, (\at + 0x08)(\base)
    movq %r10, (\at + 0x10)(\base)
    movl %r11d, (\at + 0x18)(\base)
    movl %r12d, (\at + 0x1c)(\base)
.endm

/* The same with the TSC, at \at(R15). */
.macro STORE_READING at
    movq %rdx, (\at + READING_TSC)(%r15)
    STORE_RECORD \at + READING_RECORD, %r15
.endm

/* Counts the reading RAX (its TSC in RDX) against the one before (R13, TSC in R14). Uses RBX, RCX. */
.macro JUDGE_STEP stable_only
    movq %rax, %rbx
    subq %r13, %rbx
    jns 9f
    .if \stable_only
    testl $0x100, %r12d
    jz 9f
    .endif
    incq LOOP_BACKWARDS(%r15)
    cmpq LOOP_WORST(%r15), %rbx
    jge 9f
    movq %rbx, LOOP_WORST(%r15)
    movq %r13, LOOP_WORST_BEFORE(%r15)
    movq %r14, LOOP_WORST_BEFORE_TSC(%r15)
    STORE_READING LOOP_WORST_AFTER
9:
.endm

/* The trace: empty. */
.macro TRACE_BEGIN
    movq $0, MAILBOX_RESULT1(%rdi)
.endm

/*
 * Adds the reading that READ_RECORD left in the registers to the stretch of its version, whose address is in
 * MAILBOX_RESULT1, or begins a new one. A reading that differs from the stretch's first one is torn. Uses RBX, RCX.
 */
.macro TRACE_READING
    movq MAILBOX_RESULT1(%rdi), %rbx
    testq %rbx, %rbx
    jz 4f
    cmpl STRETCH_RECORD(%rbx), %r8d
    jne 3f
    cmpq STRETCH_RECORD(%rbx), %r8
    jne 1f
    cmpq STRETCH_RECORD + 0x08(%rbx), %r9
    jne 1f
    cmpq STRETCH_RECORD + 0x10(%rbx), %r10
    jne 1f
    cmpl STRETCH_RECORD + 0x18(%rbx), %r11d
    jne 1f
    cmpl STRETCH_RECORD + 0x1c(%rbx), %r12d
    je 2f
1:  incq LOOP_TORN(%r15)
    cmpq $1, LOOP_TORN(%r15)
    jne 2f
    .irp at, 0x00, 0x08, 0x10, 0x18
    movq (STRETCH_RECORD + \at)(%rbx), %rcx
    movq %rcx, (LOOP_TORN_BEFORE + \at)(%r15)
    .endr
    STORE_RECORD LOOP_TORN_AFTER, %r15
2:  movq %rdx, STRETCH_LAST_TSC(%rbx)
    incq STRETCH_READS(%rbx)
    jmp 6f
3:  cmpq $TRACE_STRETCHES, LOOP_STRETCHES(%r15)
    jae 5f
    addq $STRETCH_SIZE, %rbx
    jmp 7f
4:  leaq TRACE_FROM_MAILBOX(%rdi), %rbx
7:  incq LOOP_STRETCHES(%r15)
    jmp 8f
5:  incq LOOP_DROPPED(%r15)
8:  movq %rbx, MAILBOX_RESULT1(%rdi)
    STORE_RECORD STRETCH_RECORD, %rbx
    movq %rdx, STRETCH_FIRST_TSC(%rbx)
    movq %rdx, STRETCH_LAST_TSC(%rbx)
    movq $1, STRETCH_READS(%rbx)
6:
.endm
