internal import CKVM
internal import GuestImages
internal import KVM

// What stands in memory and in the registers when a guest takes its first step.
// guest-images/README.md describes it for the guest's author.

/// The descriptor-table offsets in a vCPU's system page.
private enum SystemPage {
  static let globalDescriptors: UInt64 = 0x00
  static let taskState: UInt64 = 0x80
  static let taskStateSize: UInt64 = 0x68
  static let interruptDescriptors: UInt64 = 0x200
  static let stackTop: UInt64 = 0x1000
}

private enum Selector {
  static let code: UInt16 = 0x08
  static let data: UInt16 = 0x10
  static let task: UInt16 = 0x28
}

private let faultVectors = 32

struct BootState: Sendable {
  let vcpu: Int
  let image: GuestImage

  private var system: UInt64 { Layout.system(vcpu) }
  private var stackTop: UInt64 { system + SystemPage.stackTop }

  /// Writes what the image needs in memory besides itself.
  func prepare(_ memory: borrowing GuestMemory) {
    switch image.mode {
    case .real: writeInterruptVectors(memory)
    case .protected: writeDescriptors(memory, long: false)
    case .long:
      writeDescriptors(memory, long: true)
      Self.writePageTables(memory)
    }
  }

  /// Gives a vCPU its registers. `isAwake`: it ran before, and may have left in the middle of an OUT.
  func load(into vcpu: inout VCPU, isAwake: Bool, hasIRQChip: Bool) throws(KVMError) {
    if isAwake {
      // KVM finishes the OUT before it looks at new registers.
      let interrupter = vcpu.interrupter
      interrupter.requestImmediateExit(true)
      defer { interrupter.requestImmediateExit(false) }
      _ = try vcpu.run()
    }
    try vcpu.setSpecialRegisters(specialRegisters(from: vcpu.specialRegisters()))
    try vcpu.setRegisters(registers())
    // With an in-kernel APIC every vCPU but the first waits for its start-up interrupt.
    if hasIRQChip { try vcpu.setMPState(.runnable) }
  }

  func registers() -> Registers {
    var registers = Registers()
    registers.rflags = 2
    switch image.mode {
    case .real:
      registers.rip = image.entry - image.address
      registers.rsp = SystemPage.stackTop
      registers.rbp = SystemPage.stackTop
    case .protected, .long:
      registers.rip = image.entry
      registers.rsp = stackTop
      registers.rbp = stackTop
      registers.rdi = Layout.mailbox(vcpu)
    }
    return registers
  }

  func specialRegisters(from current: SpecialRegisters) -> SpecialRegisters {
    var special = current
    special.cr2 = 0
    special.cr3 = 0
    special.cr4 = 0
    special.efer = 0
    special.cr0 = 0x10
    switch image.mode {
    case .real: setReal(&special)
    case .protected:
      setFlat(&special, long: false)
      special.cr0 = 0x11
    case .long:
      setFlat(&special, long: true)
      special.cr0 = 0x8000_0011
      special.cr3 = Layout.pageTables
      // PAE; LME and LMA.
      special.cr4 = 0x20
      special.efer = 0x500
    }
    return special
  }

  private func setReal(_ special: inout SpecialRegisters) {
    func segment(_ address: UInt64, type: UInt8) -> Segment {
      var segment = Segment()
      segment.base = address
      segment.selector = UInt16(address >> 4)
      segment.limit = 0xffff
      segment.type = type
      segment.present = 1
      segment.s = 1
      return segment
    }
    special.cs = segment(image.address, type: 11)
    special.ds = segment(Layout.mailbox(vcpu), type: 3)
    special.ss = segment(system, type: 3)
    special.es = segment(0, type: 3)
    special.fs = special.es
    special.gs = special.es
    special.idt.base = Layout.interruptVectors
    special.idt.limit = 0x3ff
    setTaskState(&special)
  }

  private func setFlat(_ special: inout SpecialRegisters, long: Bool) {
    func segment(_ selector: UInt16, type: UInt8, long: Bool, big: Bool) -> Segment {
      var segment = Segment()
      segment.selector = selector
      segment.limit = 0xffff_ffff
      segment.type = type
      segment.present = 1
      segment.s = 1
      segment.g = 1
      segment.l = long ? 1 : 0
      segment.db = big ? 1 : 0
      return segment
    }
    special.cs = segment(Selector.code, type: 11, long: long, big: !long)
    special.ds = segment(Selector.data, type: 3, long: false, big: true)
    special.es = special.ds
    special.fs = special.ds
    special.gs = special.ds
    special.ss = special.ds
    special.gdt.base = system + SystemPage.globalDescriptors
    special.gdt.limit = Selector.task + 0xf
    special.idt.base = system + SystemPage.interruptDescriptors
    special.idt.limit = UInt16(faultVectors * (long ? 16 : 8) - 1)
    setTaskState(&special)
  }

  private func setTaskState(_ special: inout SpecialRegisters) {
    var task = Segment()
    task.base = system + SystemPage.taskState
    task.limit = UInt32(SystemPage.taskStateSize) - 1
    task.selector = Selector.task
    task.type = 11
    task.present = 1
    special.tr = task
    var local = Segment()
    local.type = 2
    local.unusable = 1
    special.ldt = local
  }

  private func writeInterruptVectors(_ memory: borrowing GuestMemory) {
    let stubs = UInt16(image.faultStubs - image.address)
    for vector in 0..<faultVectors {
      let offset = stubs + UInt16(vector) * UInt16(FAULT_STUB_SIZE)
      memory.store32(
        UInt32(image.address >> 4) << 16 | UInt32(offset),
        at: Int(Layout.interruptVectors) + vector * 4)
    }
  }

  private func writeDescriptors(_ memory: borrowing GuestMemory, long: Bool) {
    let task = system + SystemPage.taskState
    let table: [UInt64] = [
      0,
      long ? 0x00af_9b00_0000_ffff : 0x00cf_9b00_0000_ffff,
      0x00cf_9300_0000_ffff,
      // Ring 3 of long mode.
      0x00af_fb00_0000_ffff,
      0x00cf_f300_0000_ffff,
      0x0000_8900_0000_0000 | SystemPage.taskStateSize - 1 | (task & 0xff_ffff) << 16
        | (task >> 24) << 56,
      0,
    ]
    for (index, descriptor) in table.enumerated() {
      memory.store64(descriptor, at: Int(system) + index * 8)
    }
    memory.fill(0, at: Int(task), count: Int(SystemPage.taskStateSize))
    // RSP0: where an exception in ring 3 finds its stack.
    memory.store64(stackTop, at: Int(task) + 4)
    for vector in 0..<faultVectors {
      let stub = image.faultStubs + UInt64(vector) * UInt64(FAULT_STUB_SIZE)
      let gate =
        (stub & 0xffff) | UInt64(Selector.code) << 16 | 0x8e00 << 32 | (stub >> 16 & 0xffff) << 48
      let at = Int(system + SystemPage.interruptDescriptors) + vector * (long ? 16 : 8)
      memory.store64(gate, at: at)
      if long { memory.store64(stub >> 32, at: at + 8) }
    }
  }

  /// One-to-one for the first GiB in 2 MiB pages, open to ring 3.
  private static func writePageTables(_ memory: borrowing GuestMemory) {
    let root = Int(Layout.pageTables)
    let next = Layout.pageTables + Layout.pageSize
    memory.store64(next | 7, at: root)
    memory.store64((next + Layout.pageSize) | 7, at: root + Int(Layout.pageSize))
    for entry in 0..<512 {
      memory.store64(
        UInt64(entry) << 21 | 0x87, at: root + 2 * Int(Layout.pageSize) + entry * 8)
    }
  }
}

extension GuestMemory {
  borrowing func store64(_ value: UInt64, at offset: Int) {
    store32(UInt32(truncatingIfNeeded: value), at: offset)
    store32(UInt32(truncatingIfNeeded: value >> 32), at: offset + 4)
  }
}
