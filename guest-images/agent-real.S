/* The agent in real mode. DS:0 is the mailbox, CS:0 the image, SS:BP the top of the stack. Addresses in requests are physical, below 1 MiB. */
#include "include/mailbox.h"

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

/* ES:SI = the physical address that argument \number holds. */
.macro ADDRESS_ARGUMENT number
    movl (MAILBOX_ARGUMENT0 + 8 * \number)(%di), %eax
    movw %ax, %si
    andw $15, %si
    shrl $4, %eax
    movw %ax, %es
.endm

next:
    movl MAILBOX_REQUEST(%di), %eax
    cmpl $REQUEST_COUNT, %eax
    jae unknown
    movw %ax, %bx
    addw %bx, %bx
    jmpw *%cs:(table - guest_agent_real_begin)(%bx)

read_msr:
    movl MAILBOX_ARGUMENT0(%di), %ecx
    rdmsr
    jmp result_edx_eax
write_msr:
    movl MAILBOX_ARGUMENT0(%di), %ecx
    movl MAILBOX_ARGUMENT1(%di), %eax
    movl (MAILBOX_ARGUMENT1 + 4)(%di), %edx
    wrmsr
    jmp done
write_msr_read_clock:
    ADDRESS_ARGUMENT 2
    movl MAILBOX_ARGUMENT0(%di), %ecx
    movl MAILBOX_ARGUMENT1(%di), %eax
    movl (MAILBOX_ARGUMENT1 + 4)(%di), %edx
    wrmsr
    jmp read_record
read_clock:
    ADDRESS_ARGUMENT 0
read_record:
    movw $CLOCK_ATTEMPTS, %cx
1:  movl %es:(%si), %eax
    movl %eax, MAILBOX_SNAPSHOT(%di)
    rdtsc
    movl %eax, MAILBOX_TSC(%di)
    movl %edx, (MAILBOX_TSC + 4)(%di)
    .irp at, 0x04, 0x08, 0x0c, 0x10, 0x14, 0x18, 0x1c
    movl %es:\at(%si), %eax
    movl %eax, (MAILBOX_SNAPSHOT + \at)(%di)
    .endr
    movl %es:(%si), %eax
    testl $1, %eax
    jnz 2f
    cmpl MAILBOX_SNAPSHOT(%di), %eax
    je done
2:  decw %cx
    jnz 1b
    movl $STATUS_NEVER_EVEN, MAILBOX_STATUS(%di)
    jmp bell
read_tsc:
    rdtsc
result_edx_eax:
    movl %eax, MAILBOX_RESULT0(%di)
    movl %edx, (MAILBOX_RESULT0 + 4)(%di)
    jmp done
run_cpuid:
    movl MAILBOX_ARGUMENT0(%di), %eax
    movl MAILBOX_ARGUMENT1(%di), %ecx
    cpuid
    movl %eax, MAILBOX_RESULT0(%di)
    movl %ebx, (MAILBOX_RESULT0 + 4)(%di)
    movl %ecx, MAILBOX_RESULT1(%di)
    movl %edx, (MAILBOX_RESULT1 + 4)(%di)
    jmp done
peek:
    ADDRESS_ARGUMENT 0
    movl %es:(%si), %eax
    movl %eax, MAILBOX_RESULT0(%di)
    jmp done
poke:
    ADDRESS_ARGUMENT 0
    movl MAILBOX_ARGUMENT1(%di), %eax
    movl %eax, %es:(%si)
    jmp done
halt:
    hlt
    jmp done
invalid_opcode:
    ud2
unknown:
    movl $STATUS_UNKNOWN_REQUEST, MAILBOX_STATUS(%di)
    jmp bell
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
done:
    movl $STATUS_DONE, MAILBOX_STATUS(%di)
bell:
    outb %al, $GUEST_DOORBELL_PORT
    jmp next

    .balign 2
table:
    .irp target, done, read_msr, write_msr, read_clock, write_msr_read_clock, read_tsc, run_cpuid, peek, poke, halt, invalid_opcode
    .word \target - guest_agent_real_begin
    .endr
guest_agent_real_end:

    .section .note.GNU-stack, "", @progbits
