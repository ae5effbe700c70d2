internal import ABIChecker
internal import KVM
internal import VMBuilder

extension Scenario {
  /// KVMCLOCKCTRL-EINVAL, GUESTSTOPPED-*: the host says that a guest was stopped, and the guest takes the news.
  @Sendable static func guestStopped(_ stage: Stage) throws {
    guard try stage.host.system.checkExtension(.kvmclockCtrl) > 0 else {
      return stage.lacks("KVM_KVMCLOCK_CTRL", "KVM_CAP_KVMCLOCK_CTRL is 0")
    }
    try stage.makeMachine()
    for vcpu in [0, 1] { try stage.tellStopped(vcpu) }
    for vcpu in [0, 1, 0] { try stage.register(vcpu) }
    for vcpu in [0, 1] {
      try tellAndClear(stage, vcpu)
      try moveAndDisable(stage, vcpu)
    }
    try tellWithoutMasterClock(stage)
    try leavePending(stage, 0)
    try tellAndRegister(stage, 1)
    try tellAfterINIT(stage)
  }

  /// GUESTSTOPPED-SURVIVES-UNREACHABLE: no slot holds the record when the vCPU enters after KVM_KVMCLOCK_CTRL.
  @Sendable static func stoppedUnreachable(_ stage: Stage) throws {
    guard try stage.host.system.checkExtension(.kvmclockCtrl) > 0 else {
      return stage.lacks("KVM_KVMCLOCK_CTRL", "KVM_CAP_KVMCLOCK_CTRL is 0")
    }
    try stage.makeMachine()
    let memories = Memories(stage)
    for vcpu in [0, 1] {
      let page = stage.freePage(region: UInt64(vcpu))
      var memory = try memories.make()
      try memories.setSlot(1, at: page, memory)
      try stage.register(vcpu, at: page)
      for isToldBefore in [true, false] {
        if isToldBefore { try stage.tellStopped(vcpu) }
        try memories.removeSlot(1)
        if !isToldBefore {
          try stage.tellStopped(vcpu)
          memory = try memories.make()
        }
        try stage.enter(vcpu)
        try memories.setSlot(1, at: page, memory)
        try lookAfterUpdate(stage, vcpu)
      }
      for access in [HostAccess.none, .read] {
        for isToldBefore in [true, false] {
          if isToldBefore { try stage.tellStopped(vcpu) }
          try memories.protect(memory, access)
          if !isToldBefore { try stage.tellStopped(vcpu) }
          for _ in 0..<2 { try stage.enter(vcpu) }
          try memories.protect(memory, .write)
          try lookAfterUpdate(stage, vcpu)
        }
      }
      try stage.writeMSR(vcpu, MSR.systemTime, 0)
      try memories.removeSlot(1)
    }
  }

  private static func lookAfterUpdate(_ stage: Stage, _ vcpu: Int) throws {
    try stage.setClock(stage.random.next() >> 8)
    try stage.enter(vcpu)
    stage.look(vcpu)
    // The next request finds bit 1 clear.
    try stage.clearStopped(vcpu)
  }

  /// Told, kept over updates, cleared, kept clear over updates.
  private static func tellAndClear(_ stage: Stage, _ vcpu: Int) throws {
    for each in [0, 1] { stage.look(each) }
    try stage.tellStopped(vcpu)
    // A second pause may come before the guest has run.
    if vcpu == 1 { try stage.tellStopped(vcpu) }
    stage.look(vcpu)
    // Every record is made anew: whose guest was not told has to stay clear all the same.
    try stage.setClock(stage.random.next() >> 8)
    try stage.settleAndLook()
    try updateOften(stage, vcpu)
    try stage.clearStopped(vcpu)
    stage.look(vcpu)
    try updateOften(stage, vcpu)
  }

  /// Told, kept over an update, cleared, kept clear over an update, while vCPU 0 uses the old MSR.
  private static func tellWithoutMasterClock(_ stage: Stage) throws {
    try stage.register(0, MSR.systemTimeOld)
    for vcpu in [0, 1] {
      try stage.clearStopped(vcpu)
      stage.look(vcpu)
      try stage.tellStopped(vcpu)
      stage.look(vcpu)
      for isCleared in [false, true] {
        if isCleared { try stage.clearStopped(vcpu) }
        for _ in 0..<2 {
          try stage.setClock(stage.random.next() >> 8)
          try stage.settleAndLook()
        }
      }
    }
    try stage.register(0)
    try stage.settleAndLook()
  }

  /// Updates of both kinds: the clock set, and the same record registered again.
  private static func updateOften(_ stage: Stage, _ vcpu: Int) throws {
    for _ in 0..<5 {
      try stage.setClock(stage.random.next() >> 8)
      try stage.enter(vcpu)
      stage.look(vcpu)
      try stage.register(vcpu)
    }
  }

  /// Told in one record, then a fresh one, then none at all.
  private static func moveAndDisable(_ stage: Stage, _ vcpu: Int) throws {
    try stage.tellStopped(vcpu)
    try stage.enter(vcpu)
    stage.look(vcpu)
    try stage.register(vcpu, at: stage.placeRecord(of: vcpu, second: true))
    stage.look(vcpu)
    try updateOften(stage, vcpu)
    try stage.writeMSR(vcpu, MSR.systemTime, stage.records[vcpu]!)
    try stage.tellStopped(vcpu)
    try stage.register(vcpu)
    try stage.hostWriteMSR(vcpu, MSR.systemTime, 0)
    try stage.tellStopped(vcpu)
    try stage.register(vcpu)
  }

  /// Told, but the record is gone before the vCPU enters; then another record.
  private static func leavePending(_ stage: Stage, _ vcpu: Int) throws {
    stage.look(vcpu)
    try stage.tellStopped(vcpu)
    try stage.hostWriteMSR(vcpu, MSR.systemTime, 0)
    try stage.enter(vcpu)
    stage.look(vcpu)
    try stage.register(vcpu, at: stage.records[vcpu]! + 64)
    try stage.enter(vcpu)
    stage.look(vcpu)
  }

  /// Told, and the host registers the same record again before the vCPU enters, as it restores a VM that it has told.
  private static func tellAndRegister(_ stage: Stage, _ vcpu: Int) throws {
    stage.look(vcpu)
    try stage.clearStopped(vcpu)
    stage.look(vcpu)
    try stage.tellStopped(vcpu)
    try stage.hostWriteMSR(vcpu, MSR.systemTime, stage.records[vcpu]! | 1)
    try stage.enter(vcpu)
    stage.look(vcpu)
  }

  private static func tellAfterINIT(_ stage: Stage) throws {
    guard try stage.makeMachineWithIRQChip(for: "INIT between vCPUs") else { return }
    for vcpu in [0, 1] { try stage.register(vcpu) }
    guard try sendINIT(stage, from: 1, to: 0) else { return }
    stage.note(.replugged(vcpu: 0, how: .initialized(by: 1)))
    try stage.tellStopped(0)
  }

  /// TSC-MATCHED-AT-CREATE, STABLE-LOST-OFFSET-MISMATCH, STABLE-REGAINED-OFFSET-MATCH, STABLE-LAG: offsets as they come,
  /// then one vCPU's moved away and the other's after it, there and back. Each is set twice: a vCPU counts once.
  @Sendable static func tscMatching(_ stage: Stage) throws {
    try stage.makeMachine(highest: 2)
    for vcpu in [0, 1] {
      try stage.noteTSC(vcpu)
      try stage.register(vcpu)
    }
    try stage.addVCPU(2)
    try stage.noteTSC(2)
    guard try stage.hasTSCOffset(0) else { return }
    try stage.makeMachine()
    for vcpu in [0, 1] { try stage.register(vcpu) }
    try stage.settleAndLook()
    guard let origin = try stage.noteTSCOffset(0) else { return }
    try stage.noteTSCOffset(1)
    do {
      for (order, offset) in [([0, 1], origin &+ 1_000_000), ([1, 0], origin)] {
        for vcpu in order.flatMap({ [$0, $0] }) {
          try stage.setTSCOffset(vcpu, offset)
          try stage.getClock()
          for each in [vcpu, 1 - vcpu] { try stage.enter(each) }
          try stage.settleAndLook()
        }
      }
    } catch MachineError.kvm(let error) where error.request == "KVM_SET_DEVICE_ATTR" {
      stage.lacks("a TSC offset that user space sets", "\(error)")
    }
  }

  /// HOTPLUG-STABLE, HOTPLUG-KEEPS-TIME, HOTPLUG-NO-RESNAP: vCPUs that come late, the clock far from 0.
  @Sendable static func hotplug(_ stage: Stage) throws {
    try stage.makeMachine(vcpus: [0], highest: 2)
    try stage.register(0)
    try stage.setClock(3_600_000_000_000 + stage.random.next() >> 20)
    for late in [1, 2] {
      try stage.settleAndLook()
      for vcpu in stage.machine.vcpus { try stage.read(vcpu) }
      try stage.sleep(milliseconds: 5)
      try stage.addVCPU(late)
      try stage.register(late)
      for vcpu in stage.machine.vcpus { try stage.read(vcpu) }
      try stage.settleAndLook()
    }
  }

  /// RESNAP-BOUNDED, RESNAP-NO-JUMP: vCPU 0 goes to the old MSR and back, long after the pair before and at once.
  @Sendable static func newPair(_ stage: Stage) throws {
    try stage.makeMachine(vcpus: [0])
    try stage.register(0)
    try stage.enter(0)
    stage.look(0)
    for milliseconds in [150, 0, 10] {
      try stage.sleep(milliseconds: milliseconds)
      for msr in [MSR.systemTimeOld, MSR.systemTime] { try stage.register(0, msr) }
      try stage.enter(0)
      stage.look(0)
    }
  }
}
