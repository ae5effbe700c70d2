internal import ABIChecker
internal import VMBuilder

extension Scenario {
  private static let names = [1, 2, 3]

  /// SISTERS-KEEP-TIME, SISTERS-KEEP-MASTER-CLOCK: three VMs; each is set, goes to the old MSR and back, and is destroyed.
  @Sendable static func severalVMs(_ stage: Stage) throws {
    for name in names { try makeVM(stage, name) }
    for name in names {
      for vm in names { try look(stage, vm) }
      stage.use(name)
      try stage.setClock(stage.random.next() >> 8)
      for vm in names { try look(stage, vm) }
      for msr in [MSR.systemTimeOld, MSR.systemTime] {
        stage.use(name)
        try stage.register(0, msr)
        for vm in names { try look(stage, vm) }
      }
      try makeVM(stage, name)
    }
    for vm in names { try look(stage, vm) }
  }

  /// CLOCKSOURCE-EVERY-VM: the host's clocksource goes from tsc to another one and back, twice, under three VMs.
  @Sendable static func clocksourceTwice(_ stage: Stage) throws {
    guard let (home, other) = stage.otherClocksource() else { return }
    for name in names + [4] { try makeVM(stage, name) }
    // The end of one is nothing to the others; the empty one in its place has no clock to tell of.
    try stage.makeMachine(named: 4, vcpus: [])
    for source in [other, home, other, home] {
      guard try stage.switchClocksource(to: source) else { return }
      for name in names {
        stage.use(name)
        try waitForFlag(stage, isSet: source == home)
        for vcpu in [0, 1] { try stage.read(vcpu) }
        if source == home { try stage.setClock(stage.random.next() >> 8) }
        try stage.settleAndLook()
      }
    }
  }

  private static func makeVM(_ stage: Stage, _ name: Int) throws {
    try stage.makeMachine(named: name)
    for vcpu in [0, 1] {
      try stage.noteTSC(vcpu)
      try stage.register(vcpu)
    }
    try stage.settleAndLook()
  }

  private static func look(_ stage: Stage, _ name: Int) throws {
    stage.use(name)
    for vcpu in [0, 1] { try stage.read(vcpu) }
    try stage.settleAndLook()
  }
}
