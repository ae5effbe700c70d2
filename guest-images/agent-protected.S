/* The agent in 32-bit protected mode, flat, no paging. EDI holds the mailbox, EBX the image, EBP the top of the stack. */
#include "include/mailbox.h"

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
    .if ((1 << vector) & 0x60227d00) == 0
    pushl $0
    .endif
    pushl $vector
    jmp fault
    .set vector, vector + 1
    .endr

next:
    movl MAILBOX_REQUEST(%edi), %eax
    cmpl $REQUEST_COUNT, %eax
    jae unknown
    movl (table - guest_agent_protected_begin)(%ebx,%eax,4), %eax
    addl %ebx, %eax
    jmp *%eax

read_msr:
    movl MAILBOX_ARGUMENT0(%edi), %ecx
    rdmsr
    jmp result_edx_eax
write_msr:
    movl MAILBOX_ARGUMENT0(%edi), %ecx
    movl MAILBOX_ARGUMENT1(%edi), %eax
    movl (MAILBOX_ARGUMENT1 + 4)(%edi), %edx
    wrmsr
    jmp done
write_msr_read_clock:
    movl MAILBOX_ARGUMENT2(%edi), %esi
    movl MAILBOX_ARGUMENT0(%edi), %ecx
    movl MAILBOX_ARGUMENT1(%edi), %eax
    movl (MAILBOX_ARGUMENT1 + 4)(%edi), %edx
    wrmsr
    jmp read_record
read_clock:
    movl MAILBOX_ARGUMENT0(%edi), %esi
read_record:
    movl $CLOCK_ATTEMPTS, %ecx
1:  movl (%esi), %eax
    movl %eax, MAILBOX_SNAPSHOT(%edi)
    rdtsc
    movl %eax, MAILBOX_TSC(%edi)
    movl %edx, (MAILBOX_TSC + 4)(%edi)
    .irp at, 0x04, 0x08, 0x0c, 0x10, 0x14, 0x18, 0x1c
    movl \at(%esi), %eax
    movl %eax, (MAILBOX_SNAPSHOT + \at)(%edi)
    .endr
    movl (%esi), %eax
    testl $1, %eax
    jnz 2f
    cmpl MAILBOX_SNAPSHOT(%edi), %eax
    je done
2:  decl %ecx
    jnz 1b
    movl $STATUS_NEVER_EVEN, MAILBOX_STATUS(%edi)
    jmp bell
read_tsc:
    rdtsc
result_edx_eax:
    movl %eax, MAILBOX_RESULT0(%edi)
    movl %edx, (MAILBOX_RESULT0 + 4)(%edi)
    jmp done
run_cpuid:
    pushl %ebx
    movl MAILBOX_ARGUMENT0(%edi), %eax
    movl MAILBOX_ARGUMENT1(%edi), %ecx
    cpuid
    movl %eax, MAILBOX_RESULT0(%edi)
    movl %ebx, (MAILBOX_RESULT0 + 4)(%edi)
    movl %ecx, MAILBOX_RESULT1(%edi)
    movl %edx, (MAILBOX_RESULT1 + 4)(%edi)
    popl %ebx
    jmp done
peek:
    movl MAILBOX_ARGUMENT0(%edi), %esi
    movl (%esi), %eax
    movl %eax, MAILBOX_RESULT0(%edi)
    jmp done
poke:
    movl MAILBOX_ARGUMENT0(%edi), %esi
    movl MAILBOX_ARGUMENT1(%edi), %eax
    movl %eax, (%esi)
    jmp done
halt:
    hlt
    jmp done
invalid_opcode:
    ud2
unknown:
    movl $STATUS_UNKNOWN_REQUEST, MAILBOX_STATUS(%edi)
    jmp bell
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
done:
    movl $STATUS_DONE, MAILBOX_STATUS(%edi)
bell:
    outb %al, $GUEST_DOORBELL_PORT
    jmp next

    .balign 4
table:
    .irp target, done, read_msr, write_msr, read_clock, write_msr_read_clock, read_tsc, run_cpuid, peek, poke, halt, invalid_opcode
    .long \target - guest_agent_protected_begin
    .endr
guest_agent_protected_end:

    .section .note.GNU-stack, "", @progbits
