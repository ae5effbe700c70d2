/*
 * Reads another vCPU's record in ring 3 as fast as it can until it is told to stop, or argument2 times: a stretch
 * of the trace for each version, readings that differ under one and the same even version, odd versions.
 * argument0 is the record. An update may be under way as long as its host likes: it never gives up on an odd version.
 */
#include "long.h"

    LONG_IMAGE_HEADER torn

entry:
    movq %rbp, %rsp
    ENTER_RING3 start
start:
    leaq MAILBOX_LOOP(%rdi), %r15
    movq MAILBOX_ARGUMENT0(%rdi), %rsi
    TRACE_BEGIN
again:
    READ_RECORD stayed_odd
    TRACE_READING
    incq LOOP_READS(%r15)
    cmpl $0, MAILBOX_STOP(%rdi)
    jne 1f
    decq MAILBOX_ARGUMENT2(%rdi)
    jnz again
1:  movl $STATUS_DONE, MAILBOX_STATUS(%rdi)
bell:
    outb %al, $GUEST_DOORBELL_PORT
    jmp start
stayed_odd:
    cmpl $0, MAILBOX_STOP(%rdi)
    je again
    jmp 1b

    LONG_FAULT_HANDLER bell
guest_torn_end:

    .section .note.GNU-stack, "", @progbits
