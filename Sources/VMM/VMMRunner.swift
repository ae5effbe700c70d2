package import ABIChecker

/// What to do with a VMM.
package struct VMMPlan: Sendable {
  /// vCPUs from the start.
  package var vcpus = 2
  /// How often each thing is done in a row.
  package var rounds = 3
  package var seed: UInt64 = 0
  /// What the clock does over a pause, and from a save to a restore, by the user's word.
  package var declared: [VMMVerb: ClockPolicy] = [:]
  package var scenarios = ScenarioName.ofVMMs

  package init() {}
}

package enum VMMRunner {
  /// How often a script may be run again because a verdict was inconclusive.
  private static let retries = 3

  /// Runs the scripts, each with machines of its own, and again where the host was too busy to tell.
  ///
  /// - Returns: how many runs there were beyond the first ones.
  /// - Throws: if the guest has not booted once before it is clear that it does not.
  package static func run(
    _ plan: VMMPlan, on monitor: any VirtualMachineMonitor, host: HostFacts,
    isCancelled: @escaping () -> Bool, keep: (History) -> Void
  ) throws(VMMError) -> Int {
    var hasBooted = false
    var retried = 0
    for scenario in plan.scenarios where !isCancelled() {
      let rules = Rule.all.filter { $0.isExercised(by: scenario.rawValue) }
      var timelines: [Timeline] = []
      for attempt in 1...(1 + retries) {
        let session = try Session(
          scenario, monitor, plan, attempt: attempt, host: host, isCancelled: isCancelled)
        let failure = session.perform(scenario, rounds: plan.rounds)
        if let failure, !hasBooted, !session.hasBooted, !isCancelled() {
          throw .cannotStart(what: "the guest under \(monitor.name)", reason: "\(failure)")
        }
        hasBooted = hasBooted || session.hasBooted
        keep(session.history)
        if attempt > 1 { retried += 1 }
        let timeline = Timeline(session.history)
        timelines.append(timeline)
        let isOpen = rules.contains { $0.verdict(on: timelines).outcome.isInconclusive }
        if !isOpen || timeline.failure != nil || isCancelled() { break }
      }
    }
    return retried
  }
}

extension ScenarioName {
  /// What the VMM has to be able to do.
  fileprivate var verbs: [VMMVerb] {
    switch self {
    case .vmmPause: [.start, .pause, .resume]
    case .vmmSnapshot: [.start, .pause, .resume, .save, .restore]
    case .vmmMigration: [.start, .migrate]
    case .vmmReset: [.start, .reset]
    case .vmmHotplug: [.start, .plug]
    case .vmmBeside: [.start, .pause, .resume]
    default: [.start]
    }
  }
}

extension Session {
  /// The whole script; what it failed of is in the history too.
  fileprivate func perform(_ scenario: ScenarioName, rounds: Int) -> VMMError? {
    defer { end() }
    if let verb = scenario.verbs.first(where: { !monitor.verbs.contains($0) }) {
      note(
        .lacking(
          what: verb.rawValue, evidence: "the driver of \(monitor.name) has no such verb"), of: 0)
      return nil
    }
    do {
      try run(scenario, rounds: rounds)
      return nil
    } catch {
      note(error)
      return error
    }
  }

  private func run(_ scenario: ScenarioName, rounds: Int) throws(VMMError) {
    switch scenario {
    case .vmmRun: try justRun(rounds)
    case .vmmPause: try pauses(rounds)
    case .vmmSnapshot: try snapshots(rounds)
    case .vmmMigration: try migrations(rounds)
    case .vmmReset: try resets(rounds)
    case .vmmHotplug: try hotplugs(rounds)
    case .vmmBeside: try beside(rounds)
    default: preconditionFailure("\(scenario) is none of a VMM's")
    }
  }

  private func justRun(_ rounds: Int) throws(VMMError) {
    let machine = try start()
    for _ in 0..<rounds {
      try wait(milliseconds: 50)
      try ask(machine)
      noteRealtime(machine)
      try ask(machine, "k")
      noteRealtime(machine)
      try ask(machine, "w")
      try ask(machine, "o")
      try ask(machine, "w")
      try ask(machine)
    }
  }

  /// Long enough to tell a clock that stands still from one that runs on, on a busy host too.
  private static let stop = 300

  private func pauses(_ rounds: Int) throws(VMMError) {
    let machine = try start()
    for _ in 0..<rounds {
      try ask(machine, "c")
      try pause(machine)
      try wait(milliseconds: Self.stop)
      try resume(machine)
      try ask(machine)
      try ask(machine, "c")
      try wait(milliseconds: 20)
      try ask(machine)
    }
    // Paused twice, and resumed twice.
    try pause(machine)
    try wait(milliseconds: Self.stop / 2)
    try ifAllowed { () throws(VMMError) in try pause(machine) }
    try wait(milliseconds: Self.stop / 2)
    try resume(machine)
    try ask(machine)
    try ask(machine, "c")
    try wait(milliseconds: 20)
    try ifAllowed { () throws(VMMError) in try resume(machine) }
    try ask(machine)
  }

  private func snapshots(_ rounds: Int) throws(VMMError) {
    var machine = try start()
    // What the clock does until it is saved, and from the restore on: what it does over a pause.
    try ask(machine)
    try pause(machine)
    try wait(milliseconds: Self.stop)
    try resume(machine)
    try ask(machine)
    for round in 0..<rounds {
      try ask(machine, "c")
      try pause(machine)
      try wait(milliseconds: Self.stop / 3)
      let state = try save(machine)
      quit(machine)
      try wait(milliseconds: Self.stop)
      machine = try restore(state)
      try resume(machine)
      try ask(machine)
      guard round == 0 else { continue }
      // The same file again, beside the first one.
      let twin = try restore(state)
      try wait(milliseconds: Self.stop / 3)
      try resume(twin)
      try ask(twin)
      try ask(machine)
      quit(twin)
    }
  }

  private func migrations(_ rounds: Int) throws(VMMError) {
    var machine = try start()
    try ask(machine, "c")
    for _ in 0..<2 {
      try migrateNowhere(machine)
      try ask(machine)
    }
    for _ in 0..<rounds {
      try ask(machine, "c")
      let target = try migrate(machine)
      quit(machine)
      machine = target
      try ask(machine)
      try ask(machine)
    }
    try ask(machine, "c")
    let target = try migrate(machine, pausing: true)
    quit(machine)
    try wait(milliseconds: Self.stop)
    try resume(target)
    try ask(target)
    try ask(target)
  }

  private func resets(_ rounds: Int) throws(VMMError) {
    let machine = try start()
    for _ in 0..<rounds {
      try wait(milliseconds: 50)
      try ask(machine, "c")
      try reset(machine)
    }
  }

  /// Two machines at once: what is done to one is nothing to the other.
  private func beside(_ rounds: Int) throws(VMMError) {
    let (machine, other) = (try start(), try start())
    for _ in 0..<rounds {
      try ask(other, "c")
      try ask(machine, "c")
      try pause(machine)
      try ask(other)
      try wait(milliseconds: Self.stop)
      try ask(other)
      try resume(machine)
      try ask(other)
      try ask(machine)
    }
    guard monitor.verbs.contains(.migrate) else { return }
    let target = try migrate(machine)
    quit(machine)
    try ask(other)
    try ask(target)
    try ask(other)
  }

  private func hotplugs(_ rounds: Int) throws(VMMError) {
    let machine = try start(spare: 1)
    for _ in 0..<max(2, rounds) {
      try ask(machine, "c")
      try plug(machine)
      try wait(milliseconds: 20)
      try ask(machine)
      guard monitor.verbs.contains(.unplug) else { return }
      try unplug(machine)
    }
  }
}
