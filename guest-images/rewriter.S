/*
 * What SLES 10's 2.6.16 kernel does: write the system-time MSR, compute the time, and write it again,
 * argument2 times. argument0 is the MSR, argument1 its value (address | 1). Ring 0: the write needs it.
 */
#include "long.h"

/* Two conversions from cycles, each truncated by less than 1 ns, and two clocks of whole nanoseconds. */
#define ROUNDING_NS 4

    LONG_IMAGE_HEADER rewriter

entry:
    leaq MAILBOX_LOOP(%rdi), %r15
    movl MAILBOX_ARGUMENT1(%rdi), %esi
    andl $~1, %esi
    BEGIN_LOOP
again:
    rdtsc
    movl %eax, MAILBOX_RESULT1(%rdi)
    movl %edx, (MAILBOX_RESULT1 + 4)(%rdi)
    movl MAILBOX_ARGUMENT0(%rdi), %ecx
    movl MAILBOX_ARGUMENT1(%rdi), %eax
    movl (MAILBOX_ARGUMENT1 + 4)(%rdi), %edx
    wrmsr
    READ_RECORD never_even
    COUNT_UNSTABLE
    CLOCK_VALUE
    cmpq $0, LOOP_READS(%r15)
    jne 2f
    STORE_READING LOOP_FIRST
    jmp 3f
2:  cmpl %r8d, MAILBOX_TSC(%rdi)
    je 5f
    incq LOOP_VERSIONS(%r15)
5:  JUDGE_STEP 0
    movq %rax, %rbx
    subq %r13, %rbx
    jns 3f
    /*
     * Outside master-clock mode KVM reads its two clocks one after the other, so the record may run ahead by the
     * time between the two, and step back at the next update. That time is within the write that made the record.
     */
    pushq %rax
    movq MAILBOX_RESULT0(%rdi), %rax
    SCALE_CYCLES
    addq $ROUNDING_NS, %rax
    addq (%rsp), %rax
    subq %r13, %rax
    popq %rbx
    xchgq %rax, %rbx
    jns 3f
    incq LOOP_BEYOND(%r15)
    negq %rbx
    cmpq LOOP_EXCESS(%r15), %rbx
    jbe 3f
    movq %rbx, LOOP_EXCESS(%r15)
3:  movl %r8d, MAILBOX_TSC(%rdi)
    movq %rax, %r13
    movq %rdx, %r14
    movq %rdx, %rbx
    subq MAILBOX_RESULT1(%rdi), %rbx
    movq %rbx, MAILBOX_RESULT0(%rdi)
    incq LOOP_READS(%r15)
    REPEAT again, %r14
    STORE_READING LOOP_LAST
    movl $STATUS_DONE, MAILBOX_STATUS(%rdi)
    jmp bell
never_even:
    movl $STATUS_NEVER_EVEN, MAILBOX_STATUS(%rdi)
bell:
    outb %al, $GUEST_DOORBELL_PORT
    jmp entry

    LONG_FAULT_HANDLER bell
guest_rewriter_end:

    .section .note.GNU-stack, "", @progbits
