internal import ABIChecker
internal import KVM
internal import VMBuilder

/// Does a thing and looks whether it took effect; a capability bit alone can be wrong.
enum HostProbes {
  typealias Probe = HostReport.Probe

  static func masterClock(_ system: borrowing KVMSystem, _ facts: HostFacts) -> Probe {
    let remedy =
      facts.clocksourceIsTSC == false
      ? "let the host run on its TSC: see why the kernel's log calls it unstable"
      : "run on a host whose TSCs are in step"
    return probe(.masterClock, remedy) { () throws(KVMError) in
      let (exit, flags) = try clockFlagsAfterARun(system)
      guard case .out = exit else {
        return (.unknown, "the guest's OUT instruction ended with \(exit)")
      }
      return (
        flags.contains(.tscStable) ? .works : .absent,
        "after a vCPU ran, KVM_GET_CLOCK returns flags \(flags.rawValue)"
      )
    }
  }

  static func tscOffset(_ system: borrowing KVMSystem) -> Probe {
    probe(
      .tscOffset, "use Linux 5.16 or newer with kvm_intel or kvm_amd"
    ) { () throws(KVMError) in
      let machine = try system.createVM()
      let vcpu = try machine.createVCPU(id: 0)
      guard try vcpu.hasTSCOffset() else {
        return (.absent, "the kernel lacks KVM_VCPU_TSC_OFFSET")
      }
      let before = try vcpu.tscOffset()
      let wanted = before &+ 1_000_000
      try vcpu.setTSCOffset(wanted)
      let after = try vcpu.tscOffset()
      try vcpu.setTSCOffset(before)
      return (
        after == wanted ? .works : .absent,
        "set to \(wanted) cycles, it reads back as \(after)"
      )
    }
  }

  static func irqChip(_ system: borrowing KVMSystem) -> Probe {
    probe(
      .irqChip, "use a kernel with KVM_CAP_IRQCHIP"
    ) { () throws(KVMError) in
      let machine = try system.createVM()
      try machine.createIRQChip()
      return (.works, "KVM_CREATE_IRQCHIP succeeds")
    }
  }

  static func hostTSC(_ system: borrowing KVMSystem) -> Probe {
    probe(.clockDetails, "use Linux 5.16 or newer") {
      () throws(KVMError) in
      let flags = try system.checkExtension(.adjustClock)
      return (flags & 8 != 0 ? .works : .absent, "KVM_CAP_ADJUST_CLOCK is \(flags), host TSC is 8")
    }
  }

  /// - Parameter need: nil where no rule needs it yet.
  static func capability(
    _ system: borrowing KVMSystem, _ capability: Capability, _ need: HostNeed?,
    name: String? = nil, remedy: String
  ) -> Probe {
    probe(need, name: name, remedy) { () throws(KVMError) in
      let value = try system.checkExtension(capability)
      return (value > 0 ? .works : .absent, "\(capability) is \(value)")
    }
  }

  static func twoCPUs() -> Probe {
    probe(.twoCPUs, "let the process run on a second CPU") { () throws(KVMError) in
      let cpus = try Affinity.current().cpus
      return (cpus.count >= 2 ? .works : .absent, "sched_getaffinity allows \(cpus)")
    }
  }

  private static func probe(
    _ need: HostNeed?, name: String? = nil, _ remedy: String,
    _ attempt: () throws(KVMError) -> (finding: Probe.Finding, evidence: String)
  ) -> Probe {
    let rules = Rule.all.filter { rule in need.map(rule.needs.contains) ?? false }.map(\.id)
    let name = name ?? need?.rawValue ?? ""
    do {
      let (finding, evidence) = try attempt()
      return Probe(
        name: name, finding: finding, evidence: evidence, rules: rules, remedy: remedy)
    } catch {
      return Probe(
        name: name, finding: .unknown, evidence: "\(error)", rules: rules, remedy: remedy)
    }
  }

  /// `OUT` to port 0x10 in real mode: enough for the vCPU to be entered and to come back.
  private static let guest: [UInt8] = [0xe6, 0x10]

  private static func clockFlagsAfterARun(
    _ system: borrowing KVMSystem
  ) throws(KVMError) -> (exit: VCPUExit, flags: ClockFlags) {
    let start: UInt64 = 0x1000
    // Owners are released in the opposite order, so the memory outlives the machine that uses it.
    let memory = try GuestMemory(size: 0x2000)
    memory.write(guest, at: Int(start))
    let machine = try system.createVM()
    // Intel's real mode needs these pages; other backends ignore or refuse them.
    try? machine.setIdentityMapAddress(0xfffb_c000)
    try? machine.setTSSAddress(0xfffb_d000)
    try machine.setMemoryRegion(slot: 0, guestPhysicalAddress: 0, memory: memory)
    let vcpu = try machine.createVCPU(id: 0)
    var special = try vcpu.specialRegisters()
    special.cs.base = 0
    special.cs.selector = 0
    try vcpu.setSpecialRegisters(special)
    var registers = try vcpu.registers()
    registers.rip = start
    registers.rflags = 2
    try vcpu.setRegisters(registers)
    let exit = try vcpu.run()
    return (exit, try machine.clock().flags)
  }
}
