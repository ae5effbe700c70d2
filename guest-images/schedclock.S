/*
 * What Linux does for its scheduler clock since 4.3: read kvmclock once on the boot vCPU and subtract that one
 * constant on every vCPU ever after. argument0 is this vCPU's record, argument1 where the constant stands in
 * memory: 0 there means that this vCPU is the first to read and stores it. argument2 is the number of readings.
 * Ring 3, where every backend runs natively.
 */
#include "long.h"

    LONG_IMAGE_HEADER schedclock

entry:
    movq %rbp, %rsp
    ENTER_RING3 start
start:
    leaq MAILBOX_LOOP(%rdi), %r15
    movq MAILBOX_ARGUMENT0(%rdi), %rsi
    /* The host zeroed the counters; a minimum has to start at the top. */
    movabsq $0x7fffffffffffffff, %rax
    movq %rax, LOOP_MINIMUM(%r15)
    xorl %r13d, %r13d
    BEGIN_LOOP
again:
    READ_RECORD never_even, lfence
    COUNT_UNSTABLE
    CLOCK_VALUE
    cmpq $0, LOOP_READS(%r15)
    jne 2f
    STORE_READING LOOP_FIRST
    movq MAILBOX_ARGUMENT1(%rdi), %rbx
    cmpq $0, (%rbx)
    jne 3f
    movq %rax, (%rbx)
    jmp 3f
2:  JUDGE_STEP 1
    cmpl %r8d, MAILBOX_RESULT0(%rdi)
    je 3f
    incq LOOP_VERSIONS(%r15)
3:  movl %r8d, MAILBOX_RESULT0(%rdi)
    movq %rax, %r13
    movq %rdx, %r14
    movq MAILBOX_ARGUMENT1(%rdi), %rbx
    subq (%rbx), %rax
    jns 4f
    incq LOOP_NEGATIVE(%r15)
4:  cmpq LOOP_MINIMUM(%r15), %rax
    jge 5f
    movq %rax, LOOP_MINIMUM(%r15)
5:  incq LOOP_READS(%r15)
    REPEAT again, %r14
    STORE_READING LOOP_LAST
    movl $STATUS_DONE, MAILBOX_STATUS(%rdi)
    jmp bell
never_even:
    movl $STATUS_NEVER_EVEN, MAILBOX_STATUS(%rdi)
bell:
    outb %al, $GUEST_DOORBELL_PORT
    jmp start

    LONG_FAULT_HANDLER bell
guest_schedclock_end:

    .section .note.GNU-stack, "", @progbits
