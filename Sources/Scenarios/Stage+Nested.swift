internal import ABIChecker
internal import KVM
internal import VMBuilder

// The agent as its own guest.

extension Stage {
  /// Makes the agent its own guest, L2, with a TSC offset; whether that works.
  func enterL2(_ vcpu: Int, tscOffset: UInt64) throws -> Bool {
    let what = "nested virtualization"
    guard let bySVM = host.cpuid.nestsBySVM else {
      lacks(what, "KVM_GET_SUPPORTED_CPUID offers guests neither SVM nor VMX")
      return false
    }
    let instruction = bySVM ? "VMRUN" : "VMLAUNCH"
    let request = GuestRequest.enterL2(tscOffset: tscOffset, bySVM: bySVM)
    guard let reply = try answer(of: vcpu, to: request, what, instruction) else { return false }
    if let fault = reply.value.fault {
      lacks(what, "the way to \(instruction) raised exception vector \(fault.vector)")
      return false
    }
    guard reply.value.result0 == 0 else {
      lacks(what, "\(instruction) ends with \(Hex(reply.value.result0))")
      return false
    }
    record(.vcpu(vcpu), reply.began, reply.ended, .ranL2(tscOffset: Hex(tscOffset)))
    return true
  }

  func leaveL2(_ vcpu: Int) throws {
    let bySVM = host.cpuid.nestsBySVM ?? true
    let reply = try machine.ask(vcpu, .leaveL2(bySVM: bySVM))
    guard reply.value.status == .done,
      reply.value.result0 == GuestRequest.hypercallExit(bySVM: bySVM)
    else {
      throw MachineError.mailboxUnreadable(
        vcpu: vcpu,
        reason: "\(reply.value.status), reason \(reply.value.result0), where L2 was to leave")
    }
    record(.vcpu(vcpu), reply.began, reply.ended, .leftL2)
  }

  /// What `read` does, by L2.
  func readInL2(_ vcpu: Int) throws {
    let address = records[vcpu]!
    let reply = try machine.ask(vcpu, .readClock(at: address))
    record(
      .vcpu(vcpu), reply.began, reply.ended,
      .readInL2(
        address: Hex(address), reading: Reading(reply.value.reading),
        settled: reply.value.status == .done))
  }
}

extension [CPUIDEntry] {
  /// Whether a guest can be a hypervisor by SVM, or by VMX; nil if by neither.
  var nestsBySVM: Bool? {
    if first(where: { $0.function == 0x8000_0001 }).map({ $0.ecx >> 2 & 1 }) == 1 { return true }
    return first { $0.function == 1 }.map { $0.ecx >> 5 & 1 } == 1 ? false : nil
  }
}
