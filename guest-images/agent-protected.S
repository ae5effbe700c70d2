/* The agent in 32-bit protected mode, flat, no paging. EDI holds the mailbox, EBP the top of the stack. */
#include "include/mailbox.h"

#define BOX(offset) offset(%edi)
#define RECORD(offset) offset(%esi)

.macro ADDRESS_ARGUMENT number
    movl BOX(MAILBOX_ARGUMENT0 + 8 * \number), %esi
.endm

    .section .rodata
    .balign 16
    .globl guest_agent_protected_begin
    .globl guest_agent_protected_end
    .code32
guest_agent_protected_begin:
    .long next - guest_agent_protected_begin
    .long faults - guest_agent_protected_begin
    .long 0
    .long 0
faults:
    .set vector, 0
    .rept 32
    .balign FAULT_STUB_SIZE, 0x90
    /* As in long.h. */
    .if ((1 << vector) & 0x60227d00) == 0
    pushl $0
    .endif
    pushl $vector
    jmp fault
    .set vector, vector + 1
    .endr
#include "agent.h"

next:
    movl MAILBOX_REQUEST(%edi), %eax
    cmpl $REQUEST_COUNT, %eax
    jae unknown
    call here
here:
    popl %ebx
    addl (table - here)(%ebx,%eax,4), %ebx
    jmp *%ebx

fault:
    popl %eax
    movl %eax, MAILBOX_VECTOR(%edi)
    popl %eax
    movl %eax, MAILBOX_ERROR_CODE(%edi)
    popl %eax
    movl %eax, MAILBOX_FAULT_IP(%edi)
    movl $0, (MAILBOX_FAULT_IP + 4)(%edi)
    movl %ebp, %esp
    movl $STATUS_FAULT, MAILBOX_STATUS(%edi)
    jmp bell

    .balign 4
table:
    .irp target, AGENT_TARGETS
    .long \target - here
    .endr
guest_agent_protected_end:

    .section .note.GNU-stack, "", @progbits
