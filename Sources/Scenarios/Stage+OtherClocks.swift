internal import ABIChecker
internal import KVM
internal import VMBuilder

// The VM's clock under other names: Hyper-V's, Xen's, and the hypercall that pairs CLOCK_REALTIME with the TSC.

extension Stage {
  /// KVM's leaves make room for Hyper-V's signature, "Hv#1", and its features: the counter, hypercalls, the reference page.
  static func withHyperV(_ cpuid: [CPUIDEntry]) -> [CPUIDEntry] {
    var cpuid = cpuid
    for index in cpuid.indices where cpuid[index].function >> 8 == 0x40_0000 {
      if cpuid[index].function == 0x4000_0000 { cpuid[index].eax += 0x100 }
      cpuid[index].function += 0x100
    }
    return cpuid + [
      CPUIDEntry(
        function: 0x4000_0000, eax: 0x4000_0003, ebx: 0x7263_694d, ecx: 0x666f_736f,
        edx: 0x7648_2074),
      CPUIDEntry(function: 0x4000_0001, eax: 0x3123_7648),
      CPUIDEntry(function: 0x4000_0003, eax: 1 << 1 | 1 << 5 | 1 << 9),
    ]
  }

  var referencePage: UInt64 { Layout.clockPage(0, second: true) }

  /// Whether the guest can say that it knows Hyper-V: KVM may have no such MSRs, or ignore what it does not have.
  func introduceToHyperV() throws -> Bool {
    let identity: UInt64 = 0x8100_0000_0001_0000
    if let fault = try writeMSR(0, MSR.hyperVGuest, identity) {
      lacks(
        "Hyper-V's MSRs", "WRMSR of \(Hex(MSR.hyperVGuest)) raised exception vector \(fault.vector)"
      )
      return false
    }
    let read = try readMSR(0, MSR.hyperVGuest)
    if read != identity {
      lacks("Hyper-V's MSRs", "\(Hex(MSR.hyperVGuest)) is \(Hex(read)) after \(Hex(identity))")
    }
    return read == identity
  }

  /// Each vCPU reads its record, and Hyper-V's counter between; the page is looked at before and after.
  func compareWithHyperV() throws {
    for vcpu in [0, 1] { try enter(vcpu) }
    for vcpu in [0, 1, 0, 1] {
      lookAtMemory(referencePage, count: 24)
      try read(vcpu)
      try readMSR(vcpu, MSR.referenceCount)
      try read(vcpu)
      lookAtMemory(referencePage, count: 24)
    }
  }

  /// A vCPU's vcpu_time_info and its vcpu_info.
  private func xenPlaces(of vcpu: Int) -> (timeInfo: UInt64, info: UInt64) {
    let page = Layout.clockPage(vcpu, second: true)
    return (page + 0x140, page + 0x180)
  }

  /// Gives both vCPUs their Xen clock records; whether KVM has such.
  func registerXenRecords() throws -> Bool {
    for vcpu in [0, 1] {
      let (timeInfo, info) = xenPlaces(of: vcpu)
      do {
        var set = try machine.withVCPU(vcpu) { vcpu throws(KVMError) in
          try vcpu.setXenTimeInfo(at: timeInfo)
        }
        record(.host, set.began, set.ended, .xenTimeSet(vcpu: vcpu, address: Hex(timeInfo)))
        set = try machine.withVCPU(vcpu) { vcpu throws(KVMError) in
          try vcpu.setXenInfo(at: info)
        }
        record(.host, set.began, set.ended, .xenInfoSet(vcpu: vcpu, address: Hex(info)))
      } catch MachineError.kvm(let error) {
        lacks("Xen's clock record", "\(error)")
        return false
      }
    }
    return true
  }

  /// Whether this KVM takes addresses of this process for Xen's structures.
  func offersXenByHostAddress() throws -> Bool {
    let offered = try noteCapability(.xenHVM)
    let flag = "KVM_XEN_HVM_CONFIG_SHARED_INFO_HVA"
    guard offered & 1 << 8 == 0 else { return true }
    lacks(flag, "KVM_CAP_XEN_HVM is \(Hex(UInt64(offered)))")
    return false
  }

  /// Gives a vCPU its vcpu_info by an address of this process: first at another place, in its page or not, then at its own.
  func setXenInfoByHostAddress(_ vcpu: Int, afterAnotherPage: Bool) throws {
    let info = xenPlaces(of: vcpu).info
    // A record from before would still be right.
    machine.memory.fill(0, at: Int(info), count: 64)
    for place in [afterAnotherPage ? Layout.clockPage(vcpu) + 0x180 : info + 64, info] {
      let piece = machine.memory.piece(at: Int(place), count: 64)
      try noteXen("KVM_XEN_VCPU_SET_ATTR", .xenInfoSet(vcpu: vcpu, address: Hex(place))) {
        _ = try machine.withVCPU(vcpu) { vcpu throws(KVMError) in
          try vcpu.setXenInfo(at: piece)
        }
      }
      try enter(vcpu)
    }
  }

  /// What KVM offers it has to take; what it refuses is written down as what the request returned.
  private func noteXen(_ request: String, _ action: Action, of call: () throws -> Void) throws {
    let began = Moment.before()
    do {
      try call()
      record(.host, began, .after(), action)
    } catch let error {
      guard let refusal = KVMError(in: error) else { throw error }
      record(
        .host, began, .after(),
        .returned(request: request, result: refusal.result ?? -refusal.errno))
    }
  }

  /// Each vCPU reads its kvmclock record; its Xen records are looked at before and after.
  func compareWithXen() throws {
    for vcpu in [0, 1] { try enter(vcpu) }
    for vcpu in [0, 1, 0, 1] {
      let places = xenPlaces(of: vcpu)
      func look() {
        for address in [places.timeInfo, places.info + 32] { lookAtMemory(address, count: 32) }
      }
      look()
      try read(vcpu)
      look()
    }
  }

  /// KVM puts the wall clock into Xen's shared_info, in each of its layouts; vCPU 0 reads its kvmclock record after it.
  func shareXenInfo(isByHostAddress: Bool = false) throws {
    for is64Bit in [true, false] {
      machine.memory.fill(0xa5, at: Int(Layout.shared), count: 4096)
      try readHostClock("CLOCK_REALTIME")
      let action = Action.xenSharedInfoSet(address: Hex(Layout.shared), is64Bit: is64Bit)
      if isByHostAddress {
        try noteXen("KVM_XEN_HVM_SET_ATTR", action) {
          try machine.vm.setXenSharedInfo(
            at: machine.memory.piece(at: Int(Layout.shared), count: 4096), is64Bit: is64Bit)
        }
      } else {
        do throws(KVMError) {
          try note(
            { _ in action },
            of: { () throws(KVMError) in
              try machine.vm.setXenSharedInfo(at: Layout.shared, is64Bit: is64Bit)
            })
        } catch {
          return lacks("Xen's shared_info", "\(error)")
        }
      }
      lookAtMemory(Layout.shared + (is64Bit ? 0xc00 : 0x900), count: is64Bit ? 16 : 40)
      try read(0)
      try readHostClock("CLOCK_REALTIME")
    }
  }

  /// Whether this KVM can hide PVCLOCK_TSC_STABLE_BIT in Xen's records.
  func setXenUnstable(_ isUnstable: Bool) -> Bool {
    do throws(KVMError) {
      try note(
        { _ in .xenUnstableSet(isUnstable) },
        of: { () throws(KVMError) in try machine.vm.setXenClockUnstable(isUnstable) })
      return true
    } catch {
      lacks("KVM_XEN_HVM_CONFIG_PVCLOCK_TSC_UNSTABLE", "\(error)")
      return false
    }
  }

  /// Has the guest make the hypercall KVM_HC_CLOCK_PAIRING; whether it comes back, and is one that KVM knows.
  func pairClocks(_ vcpu: Int, clock: UInt32 = 0) throws -> Bool {
    let address = Layout.clockPage(vcpu, second: true)
    machine.memory.fill(0xa5, at: Int(address), count: 64)
    let request = GuestRequest.pairClocks(at: address, clock, on: host.cpuid)
    guard let reply = try answer(of: vcpu, to: request, "hypercalls", hypercallInstruction) else {
      return false
    }
    if let fault = reply.value.fault {
      lacks("hypercalls", "\(hypercallInstruction) raised exception vector \(fault.vector)")
      return false
    }
    let result = Int64(bitPattern: reply.value.result0)
    if result == -1000 {
      lacks("KVM_HC_CLOCK_PAIRING", "it returns -KVM_ENOSYS (-1000)")
      return false
    }
    record(
      .vcpu(vcpu), reply.began, reply.ended,
      .paired(
        address: Hex(address), clock: clock, result: result,
        bytes: HexBytes(machine.memory.read(at: Int(address), count: 64))))
    return true
  }

  /// Nil where the guest did something else than answer, by an instruction that not every backend has.
  func answer(
    of vcpu: Int, to request: GuestRequest, _ what: String, _ instruction: String
  ) throws -> Bracketed<GuestReply>? {
    do {
      return try machine.ask(vcpu, request)
    } catch {
      switch error {
      case .deadlinePassed: lacks(what, "\(instruction) did not come back")
      case .guestStopped: lacks(what, "\(instruction): \(error)")
      default: throw error
      }
      return nil
    }
  }

  private var hypercallInstruction: String { host.cpuid.haveVMMCALL ? "VMMCALL" : "VMCALL" }
}

extension GuestRequest {
  /// KVM_HC_CLOCK_PAIRING into memory at an address, for KVM_CLOCK_PAIRING_WALLCLOCK, 0, or another clock.
  static func pairClocks(at address: UInt64, _ clock: UInt32, on cpuid: [CPUIDEntry]) -> Self {
    .hypercall(9, UInt32(address), clock, byVMMCALL: cpuid.haveVMMCALL)
  }
}

extension [CPUIDEntry] {
  /// By the vendor in leaf 0: AuthenticAMD and HygonGenuine.
  var haveVMMCALL: Bool {
    let vendor = first { $0.function == 0 }?.ebx
    return vendor == 0x6874_7541 || vendor == 0x6f67_7948
  }
}
