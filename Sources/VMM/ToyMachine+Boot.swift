internal import ABIChecker
internal import GuestImages
internal import KVM

// What a machine is after a power-on or a reset: the guest's first byte, and the mode in which it is entered.

extension ToyMachine {
  /// The state after a reset: vCPU 0 at the guest's first byte, the others wait for their start-up interrupt.
  func boot() throws(KVMError) {
    memory.write(GuestFile.image, at: Int(monitor.entry == .real ? Self.realBase : VMM_BASE))
    for cpu in vcpus {
      try reset(cpu)
      if monitor.fault != .resetKeepsRecord { try cpu.vcpu.setMSR(MSR.systemTime, to: 0) }
    }
  }

  private static var realBase: Int32 { 0x10000 }

  func reset(_ cpu: ToyVCPU) throws(KVMError) {
    guard cpu.number == 0 else { return try cpu.vcpu.setMPState(.uninitialized) }
    var special = try cpu.vcpu.specialRegisters()
    func flat(_ type: UInt8) -> Segment {
      var segment = Segment()
      (segment.limit, segment.type, segment.present, segment.s, segment.g, segment.db) = (
        0xffff_ffff, type, 1, 1, 1, 1
      )
      segment.selector = type == 11 ? 8 : 16
      return segment
    }
    var registers = Registers()
    (registers.rip, registers.rflags) = (UInt64(VMM_BASE), 2)
    (special.cs, special.ds, special.es, special.ss) = (flat(11), flat(3), flat(3), flat(3))
    (special.fs, special.gs) = (flat(3), flat(3))
    (special.cr0, special.cr3, special.cr4, special.efer) = (0x11, 0, 0, 0)
    switch monitor.entry {
    case .protected: break
    case .real:
      special.cr0 = 0x10
      registers.rip = 0
      for path in [\SpecialRegisters.cs, \.ds, \.es, \.ss, \.fs, \.gs] {
        (special[keyPath: path].limit, special[keyPath: path].g, special[keyPath: path].db) = (
          0xffff, 0, 0
        )
        special[keyPath: path].type = 3
        special[keyPath: path].base = UInt64(Self.realBase)
        special[keyPath: path].selector = UInt16(Self.realBase >> 4)
      }
    case .long:
      // 4 MiB one to one, in two pages.
      let tables = 0x9000
      for (at, entry) in [
        (0, UInt64(tables) + 0x1003), (0x1000, UInt64(tables) + 0x2003), (0x2000, 0x83),
        (0x2008, 0x20_0083),
      ] {
        memory.write(withUnsafeBytes(of: entry.littleEndian) { Array($0) }, at: tables + at)
      }
      (special.cr0, special.cr3, special.cr4, special.efer) = (
        0x8000_0011, UInt64(tables), 0x20, 0x500
      )
      (special.cs.l, special.cs.db) = (1, 0)
    }
    try cpu.vcpu.setSpecialRegisters(special)
    try cpu.vcpu.setRegisters(registers)
    try cpu.vcpu.setMPState(.runnable)
  }
}
