import Glibc
import KVM

// A guest of twelve bytes, in real mode: it writes the characters that follow it to the serial port, and halts.
let text = Array("A guest says hello.\n".utf8)
let code: [UInt8] = [
  0xBE, 0x0C, 0x10,  //       mov si, text
  0xBA, 0xF8, 0x03,  //       mov dx, 0x3f8
  0xB9, UInt8(text.count), 0x00,  // mov cx, count
  0xF3, 0x6E,  //             rep outsb
  0xF4,  //                   hlt
]

func run() throws(KVMError) {
  let memory = try GuestMemory(size: 0x8000)
  memory.write(code + text, at: 0x1000)

  let machine = try KVMSystem().createVM()
  // Where Intel processors without unrestricted guests keep what they need for real mode.
  try machine.setIdentityMapAddress(0xFFFB_C000)
  try machine.setTSSAddress(0xFFFB_D000)
  try machine.setMemoryRegion(slot: 0, guestPhysicalAddress: 0, memory: memory)

  var vcpu = try machine.createVCPU(id: 0)
  var special = try vcpu.specialRegisters()
  (special.cs.base, special.cs.selector) = (0, 0)
  try vcpu.setSpecialRegisters(special)
  var registers = Registers()
  (registers.rip, registers.rsp, registers.rflags) = (0x1000, 0x1000, 2)
  try vcpu.setRegisters(registers)

  while true {
    switch try vcpu.run() {
    case .out: for character in vcpu.portData() { putchar(Int32(character)) }
    case .halt: return
    case let exit: fatalError("The guest ended with \(exit).")
    }
  }
}

do { try run() } catch {
  print(error)
  exit(1)
}
