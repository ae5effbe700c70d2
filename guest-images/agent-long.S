/* The agent in long mode: one request at a time, in ring 0 or ring 3. See README.md. */
#include "long.h"

#define BOX(offset) offset(%rdi)
#define RECORD(offset) offset(%rsi)

.macro ADDRESS_ARGUMENT number
    movq BOX(MAILBOX_ARGUMENT0 + 8 * \number), %rsi
.endm

#define NESTED_TARGETS enter_l2, leave_l2

    LONG_IMAGE_HEADER agent_long
#include "agent.h"
#include "nested.h"

entry:
next:
    movl %cs, %eax
    andl $3, %eax
    cmpl MAILBOX_RING(%rdi), %eax
    je serve
    testl %eax, %eax
    jz 1f
    /* Back to ring 0 by a fault of ring 3: not every backend can emulate INT there. */
leave_ring3:
    ud2
1:  ENTER_RING3 serve
ring0:
    movq %rbp, %rsp
serve:
    movl MAILBOX_REQUEST(%rdi), %eax
    cmpl $REQUEST_COUNT, %eax
    jae unknown
    leaq table(%rip), %rdx
    movslq (%rdx,%rax,4), %rax
    addq %rdx, %rax
    jmp *%rax

    LONG_FAULT_HANDLER bell, leave_ring3, ring0

    .balign 4
table:
    .irp target, AGENT_TARGETS
    .long \target - table
    .endr
guest_agent_long_end:

    .section .note.GNU-stack, "", @progbits
