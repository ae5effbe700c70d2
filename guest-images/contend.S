/*
 * Several vCPUs race in ring 3 to publish the largest clock value: load the maximum, then read the clock; whoever
 * reads less than the maximum that was there before saw time go back. argument0 is the record to read, argument1
 * where the racers meet (RACE_*), argument2 the number of readings.
 */
#include "long.h"

    LONG_IMAGE_HEADER contend

entry:
    movq %rbp, %rsp
    ENTER_RING3 start
start:
    leaq MAILBOX_LOOP(%rdi), %r15
    movq MAILBOX_ARGUMENT0(%rdi), %rsi
    movq $0, MAILBOX_RESULT1(%rdi)
    movq MAILBOX_ARGUMENT1(%rdi), %rbx
    lock incl RACE_ARRIVED(%rbx)
    BEGIN_LOOP
    movl $RACE_LOOKS, %ecx
1:  decl %ecx
    jz again
    pause
    READ_TSC
    LEAVE_IF_OVER %rdx, again
    movl RACE_ARRIVED(%rbx), %eax
    cmpl RACE_EXPECTED(%rbx), %eax
    jb 1b
again:
    movq MAILBOX_ARGUMENT1(%rdi), %rbx
    movq RACE_MAXIMUM(%rbx), %r13
    movq RACE_MAXIMUM_TSC(%rbx), %r14
    /* Behind the loads by READ_RECORD's fence. */
    READ_RECORD stayed_odd, lfence
    COUNT_UNSTABLE
    CLOCK_VALUE
    cmpq $0, LOOP_READS(%r15)
    jne 2f
    STORE_READING LOOP_FIRST
    jmp 3f
2:  cmpl %r8d, MAILBOX_RESULT0(%rdi)
    je 3f
    incq LOOP_VERSIONS(%r15)
3:  movl %r8d, MAILBOX_RESULT0(%rdi)
    movq %rdx, MAILBOX_TSC(%rdi)
    incq LOOP_READS(%r15)
    /* Nobody published yet. */
    testq %r14, %r14
    jz 4f
    cmpq MAILBOX_RESULT1(%rdi), %r14
    je 5f
    incq LOOP_FOREIGN(%r15)
    cmpq $RACE_GOAL, LOOP_FOREIGN(%r15)
    jne 5f
    movq MAILBOX_ARGUMENT1(%rdi), %rbx
    lock incl RACE_DONE(%rbx)
5:  JUDGE_STEP 0
    cmpq %r13, %rax
    js 7f
4:  /* RDX:RAX is what the maximum was, RCX:RBX what it shall be. */
    movq %rdx, %rcx
    movq %rdx, MAILBOX_RESULT1(%rdi)
    movq %rax, %rbx
    movq %r13, %rax
    movq %r14, %rdx
    movq MAILBOX_ARGUMENT1(%rdi), %r14
    movl $CLOCK_ATTEMPTS, %r13d
6:  lock cmpxchg16b RACE_MAXIMUM(%r14)
    je 7f
    decl %r13d
    jz 7f
    cmpq %rax, %rbx
    jns 6b
7:  movq MAILBOX_TSC(%rdi), %rdx
    REPEAT again, %rdx
over:
    movq MAILBOX_TSC(%rdi), %rdx
    STORE_READING LOOP_LAST
    movl $STATUS_DONE, MAILBOX_STATUS(%rdi)
bell:
    outb %al, $GUEST_DOORBELL_PORT
    jmp start
stayed_odd:
    TRY_AGAIN again
    jmp over

    LONG_FAULT_HANDLER bell
guest_contend_end:

    .section .note.GNU-stack, "", @progbits
