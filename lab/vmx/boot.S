# The boot ROM of a host under Bochs, in the place of a boot loader. The first sector of the first disk says where the kernel
# goes and where it starts; this loads the parts and jumps to the kernel's PVH entry.
#
# That sector holds words of 32 bits: the entry, the address of the start info, and for each part its address, its first
# sector and its number of sectors. A part without sectors ends them.

.set ROM, 0xd0000       # where bochsrc puts this
.set TABLE, 0x7000
.set DATA, 0x1f0        # the first ATA channel
.set COUNT, 0x1f2
.set SECTOR, 0x1f3      # this port and the two after it
.set DRIVE, 0x1f6
.set COMMAND, 0x1f7
.set CONTROL, 0x3f6
.set READ_SECTORS, 0x20
.set BUSY, 0x80
.set WANTS_DATA, 8

  .code16
  .globl _start
_start:
  .byte 0x55, 0xaa, 1   # an option ROM of one block
  cli
  cld
  in $0x92, %al         # the 20th line of addresses
  or $2, %al
  out %al, $0x92
  mov %cs, %ax
  mov %ax, %ds
  lgdtl gdt_register - _start
  mov %cr0, %eax
  or $1, %al
  mov %eax, %cr0
  ljmpl $8, $(ROM + protected - _start)

  .code32
protected:
  mov $16, %ax
  mov %ax, %ds
  mov %ax, %es
  mov %ax, %ss
  mov $TABLE, %esp
  mov $CONTROL, %dx     # no interrupts of the disk
  mov $2, %al
  out %al, %dx

  mov $TABLE, %edi
  xor %ebx, %ebx
  mov $1, %ebp
  call read
  mov $(TABLE + 8), %esi
next_part:
  mov (%esi), %edi
  mov 4(%esi), %ebx
  mov 8(%esi), %ebp
  add $12, %esi
  test %ebp, %ebp
  jz start
  call read
  jmp next_part
start:
  mov TABLE, %eax
  mov TABLE + 4, %ebx
  jmp *%eax

# Reads %ebp sectors from sector %ebx on to %edi, 256 with each command.
read:
  mov $256, %ecx
  cmp %ecx, %ebp
  jae 1f
  mov %ebp, %ecx
1:
  push %ecx
  mov $COUNT, %dx       # 0 means 256
  mov %cl, %al
  out %al, %dx
  mov %ebx, %eax
  mov $SECTOR, %dx
  out %al, %dx
  shr $8, %eax
  inc %dx
  out %al, %dx
  shr $8, %eax
  inc %dx
  out %al, %dx
  shr $8, %eax
  or $0xe0, %al
  mov $DRIVE, %dx
  out %al, %dx
  mov $READ_SECTORS, %al
  mov $COMMAND, %dx
  out %al, %dx
next_sector:
  mov $COMMAND, %dx
2:
  in %dx, %al
  test $BUSY, %al
  jnz 2b
  test $WANTS_DATA, %al
  jz 2b
  push %ecx
  mov $128, %ecx
  mov $DATA, %dx
  rep insl
  pop %ecx
  loop next_sector
  pop %ecx
  add %ecx, %ebx
  sub %ecx, %ebp
  jnz read
  ret

  .align 8
gdt:
  .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
gdt_register:
  .word gdt_register - gdt - 1
  .long ROM + gdt - _start
