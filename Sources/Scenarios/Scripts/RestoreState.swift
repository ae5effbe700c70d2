internal import ABIChecker
internal import KVM
internal import VMBuilder

extension Scenario {
  /// RESTORE-PENDING-FLAG, RESTORE-INIT: the guests are told that they were stopped, and do not enter before they are saved.
  @Sendable static func restoreState(_ stage: Stage) throws {
    try stage.makeMachine()
    for vcpu in [0, 1] { try stage.register(vcpu) }
    try stage.settleAndLook()
    for vcpu in [0, 1] {
      try stage.tellStopped(vcpu)
      stage.look(vcpu)
    }
    let saved = try stage.save()
    let hasINIT = try stage.goOn(with: saved)
    for vcpu in [0, 1] { try stage.enter(vcpu) }
    for vcpu in [0, 1] { stage.look(vcpu) }
    for vcpu in [0, 1] {
      try stage.tellStopped(vcpu)
      try stage.enter(vcpu)
      stage.look(vcpu)
    }
    guard hasINIT else { return }
    for (sender, target) in [(1, 0), (0, 1)] {
      _ = try stage.goOn(with: saved)
      for vcpu in [0, 1, 0, 1] { try stage.read(vcpu) }
      guard try sendINIT(stage, from: sender, to: target) else { return }
      for msr in [MSR.systemTime, MSR.systemTimeOld] { _ = try stage.hostReadMSR(target, msr) }
      try stage.boot(target, .agentLong)
      stage.look(target)
      try stage.setClock(stage.random.next() >> 8)
      for vcpu in [target, sender] { try stage.enter(vcpu) }
      stage.look(target)
      try stage.read(sender)
      try stage.register(target)
      for vcpu in [target, sender] { try stage.read(vcpu) }
    }
  }
}

extension Stage {
  /// KVM_SET_MP_STATE to what a vCPU has before its start, and back: so VMMs hold vCPUs that wait for one.
  private func park(_ vcpu: Int) throws {
    for state in [MPState.uninitialized, .runnable] {
      let call = try machine.withVCPU(vcpu) { vcpu throws(KVMError) in try vcpu.setMPState(state) }
      record(
        .host, call.began, call.ended,
        .returned(
          request: "KVM_SET_MP_STATE of vcpu\(vcpu) with mp_state \(state.rawValue)", result: 0))
    }
  }

  /// Goes on with a saved machine in a new one; whether that has KVM's interrupt controllers.
  fileprivate func goOn(with saved: SavedMachine) throws -> Bool {
    let hasIRQChip = try makeMachineWithIRQChip(for: "INIT after a restore")
    machine.memory.write(saved.memory, at: 0)
    records = saved.records
    for vcpu in [0, 1] { try hostWriteMSR(vcpu, MSR.systemTime, saved.vcpus[vcpu]!.systemTime) }
    try setClock(saved.clock.clock)
    if hasIRQChip { for vcpu in [0, 1] { try park(vcpu) } }
    return hasIRQChip
  }
}
