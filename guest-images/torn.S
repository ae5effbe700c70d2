/*
 * Reads another vCPU's record in ring 3 as fast as it can until it is told to stop, or argument2 times: a stretch
 * of the trace for each version, readings that differ under one and the same even version, odd versions.
 * argument0 is the record. The host may take any time for an update, so an odd version does not end the loop.
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
    BEGIN_LOOP
again:
    READ_RECORD stayed_odd
    TRACE_READING
    incq LOOP_READS(%r15)
    REPEAT again, %rdx
over:
    movl $STATUS_DONE, MAILBOX_STATUS(%rdi)
bell:
    outb %al, $GUEST_DOORBELL_PORT
    jmp start
stayed_odd:
    TRY_AGAIN again
    jmp over

    LONG_FAULT_HANDLER bell
guest_torn_end:

    .section .note.GNU-stack, "", @progbits
