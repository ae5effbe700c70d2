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
    return probe(.masterClock, remedy) {
      let machine = try Machine(on: system, cpuid: system.supportedCPUID())
      try machine.boot(0, .agentLong)
      _ = try machine.ask(0, .nothing())
      let flags = try machine.vm.clock().flags
      return (
        flags.contains(.tscStable) ? .works : .absent,
        "after a vCPU ran, KVM_GET_CLOCK returns flags \(flags.rawValue)"
      )
    }
  }

  static func tscOffset(_ system: borrowing KVMSystem) -> Probe {
    probe(
      .tscOffset, "use Linux 5.16 or newer with kvm_intel or kvm_amd"
    ) {
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

  static func missingPages() -> Probe {
    probe(.missingPages, "run as root, or allow it by vm.unprivileged_userfaultfd") {
      let backing = try Backing(size: 4096, filledWith: 0xa5)
      let supplier = try PageSupplier(of: backing, milliseconds: 0)
      _ = try supplier.end()
      return (.works, "pages can be taken away and supplied")
    }
  }

  /// Half the host's frequency, which no catching up can give.
  static func tscScaling(_ system: borrowing KVMSystem) -> Probe {
    probe(
      .tscScaling, "use a processor with TSC scaling, and a backend that supports it"
    ) {
      let machine = try Machine(on: system, cpuid: system.supportedCPUID())
      try machine.boot(0, .agentLong)
      let host = try machine.tscKHz(of: 0).value
      if let error = try machine.setTSCKHz(host / 2, of: 0).value {
        return (.absent, "of \(host / 2) kHz: \(error)")
      }
      let first = try machine.ask(0, .readClock(at: Layout.clockPage(0), ring: 0))
      let start = Moment.before().raw
      while Moment.after().raw - start < 5_000_000 {}
      let last = try machine.ask(0, .readClock(at: Layout.clockPage(0), ring: 0))
      let cycles = UInt128(last.value.reading.tsc &- first.value.reading.tsc) * 1_000_000
      let slowest = cycles / UInt128(last.ended.raw - first.began.raw)
      let fastest = cycles / UInt128(last.began.raw - first.ended.raw) + 1
      let isScaled =
        slowest <= UInt128(host / 2) && (UInt128(host / 2)..<UInt128(host)).contains(fastest)
      return (
        isScaled ? .works : .absent,
        "set to \(host / 2) kHz, a guest's TSC counts at \(slowest) to \(fastest) kHz; the host's at \(host)"
      )
    }
  }

  static func irqChip(_ system: borrowing KVMSystem) -> Probe {
    probe(
      .irqChip, "use a kernel with KVM_CAP_IRQCHIP"
    ) {
      let machine = try system.createVM()
      try machine.createIRQChip()
      return (.works, "KVM_CREATE_IRQCHIP succeeds")
    }
  }

  static func hostTSC(_ system: borrowing KVMSystem) -> Probe {
    probe(.clockDetails, "use Linux 5.16 or newer") {
      let flags = try system.checkExtension(.adjustClock)
      return (flags & 8 != 0 ? .works : .absent, "KVM_CAP_ADJUST_CLOCK is \(flags), host TSC is 8")
    }
  }

  static func dirtyRing(_ system: borrowing KVMSystem) -> Probe {
    probe(.dirtyRing, "use Linux 5.11 or newer") {
      let value = try system.checkExtension(.dirtyLogRing)
      guard value > 0 else { return (.absent, "\(Capability.dirtyLogRing) is \(value)") }
      let options = Machine.Options(vcpus: [], dirtyRing: .dirtyLogRing)
      let machine = try Machine(on: system, cpuid: system.supportedCPUID(), options)
      try machine.addVCPU(0, cpuid: system.supportedCPUID())
      _ = try machine.harvestDirtyRings()
      return (.works, "a vCPU's ring is there, and KVM_RESET_DIRTY_RINGS succeeds")
    }
  }

  /// - Parameter need: nil where no rule needs it yet.
  static func capability(
    _ system: borrowing KVMSystem, _ capability: Capability, _ need: HostNeed?,
    name: String? = nil, remedy: String
  ) -> Probe {
    probe(need, name: name, remedy) {
      let value = try system.checkExtension(capability)
      return (value > 0 ? .works : .absent, "\(capability) is \(value)")
    }
  }

  static func nested(_ system: borrowing KVMSystem) -> Probe {
    probe(.nested, "use kvm_intel or kvm_amd with its parameter nested=1") {
      let cpuid = try system.supportedCPUID()
      guard let bySVM = cpuid.nestsBySVM else {
        return (.absent, "KVM_GET_SUPPORTED_CPUID offers guests neither SVM nor VMX")
      }
      let machine = try Machine(on: system, cpuid: cpuid)
      try machine.boot(0, .agentLong)
      let reply = try machine.ask(0, .enterL2(tscOffset: 1 << 32, bySVM: bySVM)).value
      let isIn = reply.fault == nil && reply.result0 == 0
      return (
        isIn ? .works : .absent,
        "a guest's \(bySVM ? "VMRUN" : "VMLAUNCH") \(isIn ? "runs a guest of its own" : "does not")"
      )
    }
  }

  static func hyperV(_ system: borrowing KVMSystem) -> Probe {
    probe(.hyperV, "use a kernel with CONFIG_KVM_HYPERV, and a backend that has its MSRs") {
      let machine = try system.createVM()
      let vcpu = try machine.createVCPU(id: 0)
      try vcpu.setCPUID(Stage.withHyperV(system.supportedCPUID()))
      let taken = try vcpu.setMSRs([(MSR.hyperVGuest, 1)])
      return (
        taken == 1 ? .works : .absent,
        "KVM_SET_MSRS \(taken == 1 ? "takes" : "refuses") \(Hex(MSR.hyperVGuest))"
      )
    }
  }

  static func xen(_ system: borrowing KVMSystem) -> Probe {
    probe(.xen, "use Linux 5.12 or newer with CONFIG_KVM_XEN") {
      let machine = try Machine(on: system, cpuid: system.supportedCPUID())
      do {
        _ = try machine.withVCPU(0) { vcpu throws(KVMError) in
          try vcpu.setXenTimeInfo(at: Layout.clockPage(0))
        }
        return (.works, "KVM_XEN_VCPU_SET_ATTR succeeds")
      } catch {
        return (.absent, "\(error)")
      }
    }
  }

  static func hypercalls(_ system: borrowing KVMSystem) -> Probe {
    probe(.hypercalls, "use a backend on which a guest's hypercall comes back") {
      let cpuid = try system.supportedCPUID()
      let machine = try Machine(
        on: system, cpuid: cpuid, Machine.Options(deadlineMilliseconds: 100))
      try machine.boot(0, .agentLong)
      do {
        let reply = try machine.ask(0, .pairClocks(at: Layout.clockPage(0), 0, on: cpuid)).value
        return (
          reply.fault == nil ? .works : .absent,
          reply.fault.map { "it raises exception vector \($0.vector)" }
            ?? "KVM_HC_CLOCK_PAIRING returns \(Int64(bitPattern: reply.result0))"
        )
      } catch {
        return (.absent, "\(error)")
      }
    }
  }

  static func twoCPUs() -> Probe {
    probe(.twoCPUs, "let the process run on a second CPU") {
      let cpus = try Affinity.current().cpus
      return (cpus.count >= 2 ? .works : .absent, "sched_getaffinity allows \(cpus)")
    }
  }

  private static func probe(
    _ need: HostNeed?, name: String? = nil, _ remedy: String,
    _ attempt: () throws -> (finding: Probe.Finding, evidence: String)
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
}
