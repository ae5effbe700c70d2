/*
 * The agent in real mode. CS:0 is the image, DS:DI the mailbox, SS:BP the top of the stack. Addresses in requests are
 * physical, below 1 MiB.
 */
#include "include/mailbox.h"

#define BOX(offset) offset(%di)
#define RECORD(offset) %es:offset(%si)

.macro ADDRESS_ARGUMENT number
    movl BOX(MAILBOX_ARGUMENT0 + 8 * \number), %eax
    movw %ax, %si
    andw $15, %si
    shrl $4, %eax
    movw %ax, %es
.endm

    .section .rodata
    .balign 16
    .globl guest_agent_real_begin
    .globl guest_agent_real_end
    .code16
guest_agent_real_begin:
    .long next - guest_agent_real_begin
    .long faults - guest_agent_real_begin
    .long 0
    .long 0
faults:
    .set vector, 0
    .rept 32
    .balign FAULT_STUB_SIZE, 0x90
    pushw $vector
    jmp fault
    .set vector, vector + 1
    .endr
#include "agent.h"

next:
    movl MAILBOX_REQUEST(%di), %eax
    cmpl $REQUEST_COUNT, %eax
    jae unknown
    movw %ax, %bx
    addw %bx, %bx
    jmpw *%cs:(table - guest_agent_real_begin)(%bx)

/* Real mode pushes no error code. The address is the offset in CS. */
fault:
    xorl %eax, %eax
    movl %eax, MAILBOX_ERROR_CODE(%di)
    movl %eax, (MAILBOX_FAULT_IP + 4)(%di)
    popw %ax
    movl %eax, MAILBOX_VECTOR(%di)
    popw %ax
    movl %eax, MAILBOX_FAULT_IP(%di)
    movw %bp, %sp
    movl $STATUS_FAULT, MAILBOX_STATUS(%di)
    jmp bell

    .balign 2
table:
    .irp target, AGENT_TARGETS
    .word \target - guest_agent_real_begin
    .endr
guest_agent_real_end:

    .section .note.GNU-stack, "", @progbits
