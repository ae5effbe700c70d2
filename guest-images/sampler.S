/*
 * Reads its record in ring 3 until it is told to stop, or argument2 times: a stretch of the trace for each version,
 * and the loop's counts. argument0 is the record, argument1 a 32-bit word to watch besides: another vCPU's version.
 * REQUEST_MEASURE instead times the reading of argument0 against RDTSC and the loads alone.
 */
#include "long.h"

    LONG_IMAGE_HEADER sampler

/* A reading as the clock's users make it: RAX = the clock's value, without counts. Uses RCX, RDX, R8, R9, R10, R11. */
.macro COMPLETE_READING
complete_reading:
    movl 0x00(%rsi), %r8d
    testl $1, %r8d
    jnz read_again
    lfence
    rdtsc
    shlq $32, %rdx
    orq %rdx, %rax
    movq 0x10(%rsi), %r10
    movl 0x18(%rsi), %r11d
    movl 0x1c(%rsi), %ecx
    subq 0x08(%rsi), %rax
    lfence
    cmpl 0x00(%rsi), %r8d
    jne read_again
    testb %cl, %cl
    js 2f
    shlq %cl, %rax
    jmp 3f
2:  negb %cl
    shrq %cl, %rax
3:  mulq %r11
    shrdq $32, %rdx, %rax
    addq %r10, %rax
.endm

/* RDTSC and the same loads, in the same order. */
.macro BARE_READING
    movl 0x00(%rsi), %r8d
    lfence
    rdtsc
    shlq $32, %rdx
    orq %rdx, %rax
    movq 0x10(%rsi), %r10
    movl 0x18(%rsi), %r11d
    movl 0x1c(%rsi), %ecx
    movq 0x08(%rsi), %r9
    lfence
    movl 0x00(%rsi), %r8d
.endm

/* MEASURED_READS times \what; the least cycles of all rounds go to \at(R15). Uses R12, R13. */
.macro MEASURE what, at
    lfence
    rdtsc
    shlq $32, %rdx
    leaq (%rax,%rdx), %r13
    movl $MEASURED_READS, %r12d
    .balign 16, 0x90
5:  \what
    decl %r12d
    jnz 5b
    lfence
    rdtsc
    shlq $32, %rdx
    orq %rdx, %rax
    subq %r13, %rax
    cmpq \at(%r15), %rax
    jae 6f
    movq %rax, \at(%r15)
6:
.endm

entry:
    movq %rbp, %rsp
    ENTER_RING3 start
start:
    leaq MAILBOX_LOOP(%rdi), %r15
    movq MAILBOX_ARGUMENT0(%rdi), %rsi
    BEGIN_LOOP
    cmpl $REQUEST_MEASURE, MAILBOX_REQUEST(%rdi)
    je measure
    TRACE_BEGIN
    movq MAILBOX_ARGUMENT1(%rdi), %rbx
    movl (%rbx), %eax
    movl %eax, MAILBOX_RESULT0(%rdi)
again:
    READ_RECORD never_even, lfence
    movq MAILBOX_ARGUMENT1(%rdi), %rbx
    movl (%rbx), %ebx
    cmpl MAILBOX_RESULT0(%rdi), %ebx
    je 1f
    movl %ebx, MAILBOX_RESULT0(%rdi)
    incq LOOP_WITNESSED(%r15)
1:  TRACE_READING
    COUNT_UNSTABLE
    CLOCK_VALUE
    cmpq $0, LOOP_READS(%r15)
    jne 2f
    STORE_READING LOOP_FIRST
    jmp 3f
2:  JUDGE_STEP 0
3:  movq %rax, %r13
    movq %rdx, %r14
    incq LOOP_READS(%r15)
    REPEAT again, %r14
    STORE_READING LOOP_LAST
    movq LOOP_STRETCHES(%r15), %rax
    addq LOOP_DROPPED(%r15), %rax
    decq %rax
    movq %rax, LOOP_VERSIONS(%r15)
    movl $STATUS_DONE, MAILBOX_STATUS(%rdi)
    jmp bell
never_even:
    movl $STATUS_NEVER_EVEN, MAILBOX_STATUS(%rdi)
    jmp bell
measure:
    movq $-1, LOOP_COST(%r15)
    movq $-1, LOOP_BARE_COST(%r15)
    movl $MEASURED_ROUNDS, %r14d
7:  MEASURE COMPLETE_READING, LOOP_COST
    MEASURE BARE_READING, LOOP_BARE_COST
    decl %r14d
    jnz 7b
    movl $STATUS_DONE, MAILBOX_STATUS(%rdi)
    jmp bell
read_again:
    READ_TSC
    REPEAT complete_reading, %rdx
    jmp never_even
bell:
    outb %al, $GUEST_DOORBELL_PORT
    jmp start

    LONG_FAULT_HANDLER bell
guest_sampler_end:

    .section .note.GNU-stack, "", @progbits
