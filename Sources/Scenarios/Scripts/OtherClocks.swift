internal import ABIChecker

extension Scenario {
  /// HYPERV-COUNT-IS-KVMCLOCK and the others of Hyper-V: without the page and with it, after the clock was set, and while the
  /// VM has no master clock.
  @Sendable static func hyperV(_ stage: Stage) throws {
    try stage.makeMachine(hyperV: true)
    guard try stage.introduceToHyperV() else { return }
    for vcpu in [0, 1] {
      try stage.noteTSC(vcpu)
      try stage.register(vcpu)
    }
    func enablePage() throws { try stage.writeMSR(0, MSR.referenceTSC, stage.referencePage | 1) }
    try stage.compareWithHyperV()
    try enablePage()
    try stage.compareWithHyperV()
    for _ in 0..<2 {
      try stage.setClock(stage.random.next() >> 8)
      try stage.compareWithHyperV()
    }
    for msr in [MSR.systemTimeOld, MSR.systemTime] {
      try stage.register(0, msr)
      try stage.compareWithHyperV()
    }
    // A page that KVM gave up stays invalid until the guest asks for it again.
    try enablePage()
    try stage.compareWithHyperV()
  }

  /// XEN-TIME-IS-KVMCLOCK and the others of Xen: after the clock was set, while the VM has no master clock, and while Xen's
  /// records hide that it has.
  @Sendable static func xen(_ stage: Stage) throws {
    try stage.makeMachine()
    guard try stage.registerXenRecords() else { return }
    for vcpu in [0, 1] {
      try stage.noteTSC(vcpu)
      try stage.register(vcpu)
    }
    try stage.compareWithXen()
    for _ in 0..<2 {
      try stage.setClock(stage.random.next() >> 8)
      try stage.compareWithXen()
    }
    for msr in [MSR.systemTimeOld, MSR.systemTime] {
      try stage.register(0, msr)
      try stage.compareWithXen()
      try stage.shareXenInfo()
      try stage.compareWithXen()
    }
    for isUnstable in [true, false] where stage.setXenUnstable(isUnstable) {
      try stage.compareWithXen()
    }
    for vcpu in [0, 1] { try stage.tellStopped(vcpu) }
    try stage.compareWithXen()
  }

  /// XEN-HOST-ADDRESS: vcpu_info and shared_info by addresses of this process, each vCPU's from another page and then moved in its own.
  @Sendable static func xenHostAddress(_ stage: Stage) throws {
    try stage.makeMachine()
    guard try stage.offersXenByHostAddress() else { return }
    for vcpu in [0, 1] {
      try stage.noteTSC(vcpu)
      try stage.register(vcpu)
    }
    try stage.setClock(stage.random.next() >> 8)
    for afterAnotherPage in [true, false] {
      for vcpu in [0, 1] {
        try stage.setXenInfoByHostAddress(vcpu, afterAnotherPage: afterAnotherPage)
      }
      try stage.compareWithXen()
    }
    try stage.shareXenInfo(isByHostAddress: true)
  }

  /// How long a guest may take for a hypercall, in milliseconds: there are backends on which it never comes back.
  private static let patience = 100

  /// PAIRING-FIELDS, PAIRING-ONE-INSTANT, PAIRING-REFUSED.
  @Sendable static func clockPairing(_ stage: Stage) throws {
    try stage.makeMachine(patience: patience)
    for vcpu in [0, 1] { try stage.noteTSC(vcpu) }
    for round in 0..<32 {
      try stage.readHostClock("CLOCK_REALTIME")
      guard try stage.pairClocks(round % 2) else { return }
    }
    try stage.readHostClock("CLOCK_REALTIME")
    for clock in [1, 2, 1 << 31, UInt32.max] {
      guard try stage.pairClocks(0, clock: clock) else { return }
    }
  }

  /// PAIRING-WITHOUT-TSC: on another clocksource, if need be after a switch to it.
  @Sendable static func clockPairingWithoutTSC(_ stage: Stage) throws {
    try stage.makeMachine(patience: patience)
    guard try stage.pairClocks(0) else { return }
    let isTSC = stage.host.facts.clocksourceIsTSC ?? true
    let switched = isTSC ? stage.otherClocksource() : nil
    if isTSC {
      guard let switched, try stage.switchClocksource(to: switched.other) else { return }
    }
    for round in 0..<4 {
      guard try stage.pairClocks(round % 2) else { return }
    }
    if let switched { _ = try stage.switchClocksource(to: switched.home) }
  }
}
