public import ABIChecker
public import KVM
internal import Synchronization
public import VMBuilder

/// What to run, and how.
public struct RunPlan: Sendable {
  public var rules: [Rule]
  public var seed: UInt64
  /// How often a scenario may be run again because a verdict was inconclusive.
  public var retries: Int
  public var device: String
  /// Runs the scenarios that change the host, too.
  public var changesHost = false
  /// A command that, given `HostSettings.arguments`, waits for the end of its input and puts the settings back:
  /// without it no scenario changes the host.
  public var restorer: [String] = []
  /// Runs the scenarios that take minutes, too.
  public var isLong = false
  /// The only scenarios to run, whatever the rules would have; nil for all that exercise them.
  public var only: Set<ScenarioName>?
  /// How many vCPUs the machine with many has; nil for 65, or what the host allows.
  public var vcpus: Int?
  /// Who serves the guests' clock; nil for KVM itself.
  public var clock: ClockMaker?
  public var sabotage: Sabotage?

  public init(
    rules: [Rule], seed: UInt64, retries: Int = 3, device: String = "/dev/kvm",
    vcpus: Int? = nil
  ) {
    self.rules = rules
    self.seed = seed
    self.retries = retries
    self.device = device
    self.vcpus = vcpus
  }

  /// Why a scenario is not run: what is missing, and what to do about it.
  func omission(of name: ScenarioName) -> Action? {
    if clock != nil, name.concernsKVM {
      return .lacking(
        what: "KVM's own clock",
        evidence: "the clock is served by another host, and scenario \(name.rawValue) is about KVM")
    }
    if name.changesHost, !changesHost {
      return .lacking(
        what: "a host that may be changed",
        evidence: "needs --change-host (scratch hosts only)")
    }
    if name.isLong, !isLong {
      return .lacking(what: "time", evidence: "needs --long (minutes)")
    }
    return nil
  }

  /// The scenarios that are chosen, else those that exercise the rules, in the order of the catalogue.
  public var scenarios: [ScenarioName] {
    let wanted = only ?? Set(rules.flatMap(\.scenarios))
    return ScenarioName.allCases.filter { !$0.isOfVMMs && wanted.contains($0) }
  }

  /// Why a scenario would be left out, in one line; nil if it would run.
  public func reasonToLeaveOut(_ name: ScenarioName) -> String? {
    guard case .lacking(let what, let evidence)? = omission(of: name) else { return nil }
    return "\(what): \(evidence)"
  }
}

/// What a run tells while it goes on.
public struct RunObserver {
  /// A scenario begins; it is the one of this place, from 1, of so many.
  public var begins: (ScenarioName, Int, Int) -> Void
  /// A history, as soon as it can be had, before anything is judged by it, even after a failure or a cancellation.
  public var keep: (History) -> Void
  /// What a scenario broke, as soon as it ended.
  public var broke: ([Verdict]) -> Void
  /// A verdict that no scenario to come can change.
  public var judged: (Verdict) -> Void

  public init(
    begins: @escaping (ScenarioName, Int, Int) -> Void = { _, _, _ in },
    keep: @escaping (History) -> Void = { _ in },
    broke: @escaping ([Verdict]) -> Void = { _ in },
    judged: @escaping (Verdict) -> Void = { _ in }
  ) {
    self.begins = begins
    self.keep = keep
    self.broke = broke
    self.judged = judged
  }
}

/// How long one run of a scenario took.
public struct Timing: Sendable {
  public var scenario: String
  public var attempt: Int
  /// Wall time in nanoseconds.
  public var nanoseconds: UInt64
}

public struct RunResult: Sendable {
  /// One per rule of the plan, in its order; after a cancellation only those that could be judged.
  public var verdicts: [Verdict]
  public var timings: [Timing]
  /// Runs of a scenario beyond its first.
  public var retries: Int
  public var wasCancelled: Bool
  /// Why the run ended early: no guest of this host comes back.
  public var noGuestRuns: String?
}

/// Lets another thread end a run; what was recorded stays.
public final class Cancellation: Sendable {
  private let flag = Atomic(false)
  private let outer: Cancellation?

  public init() { outer = nil }

  /// Cancelled by itself or with another one.
  public init(within outer: Cancellation) { self.outer = outer }

  public func cancel() { flag.store(true, ordering: .releasing) }
  public var isCancelled: Bool {
    flag.load(ordering: .acquiring) || outer?.isCancelled ?? false
  }
}

public enum Runner {
  /// Runs the scenarios of a plan, and judges what they recorded.
  ///
  /// - Throws: `KVMError` if the device can't be used at all.
  public static func run(
    _ plan: RunPlan, host facts: HostFacts, cancellation: Cancellation, observer: RunObserver
  ) throws(KVMError) -> RunResult {
    let host = try Host(plan, facts)
    let plan = try plan.fitted(to: host.system)
    let stopping = Cancellation(within: cancellation)
    let suite = Suite(plan: plan, host: host, cancellation: stopping)
    var watch = GuestWatch()
    if plan.scenarios.contains(where: { plan.omission(of: $0) == nil }) { watch.probe(suite) }
    if watch.reason != nil { stopping.cancel() }
    var judging = Judging(plan: plan, observer: observer)
    // Scenarios that do little but wait run beside the others, which take their turns: they need quiet.
    let waiting = plan.scenarios
      .filter { $0.waits && plan.omission(of: $0) == nil && watch.reason == nil }
      .compactMap { name -> BackgroundRuns? in
        judging.begin(name)
        return try? BackgroundRuns(suite, name)
      }
    let begun = Set(waiting.map(\.name))
    func run(_ names: [ScenarioName]) {
      for name in names {
        if stopping.isCancelled { break }
        if let omission = plan.omission(of: name) {
          judging.end(name, suite.left(out: name, because: omission))
          continue
        }
        judging.begin(name)
        let runs = suite.runs(of: name, keep: observer.keep)
        watch.saw(runs)
        if watch.reason != nil { stopping.cancel() }
        judging.end(name, runs)
      }
    }
    let others = plan.scenarios.filter { !begun.contains($0) }
    run(others.filter { !$0.changesHost })
    for background in waiting {
      let runs = background.finish()
      for timeline in runs.timelines { observer.keep(timeline.history) }
      judging.end(background.name, runs)
    }
    // A host that changes is nothing that others can run beside.
    run(others.filter(\.changesHost))
    return result(
      plan, judging.all, noGuestRuns: watch.reason,
      wasCancelled: cancellation.isCancelled && watch.reason == nil)
  }

  /// The same, where only the histories are wanted as they come.
  public static func run(
    _ plan: RunPlan, host facts: HostFacts, cancellation: Cancellation, keep: (History) -> Void
  ) throws(KVMError) -> RunResult {
    try withoutActuallyEscaping(keep) { keep in
      Result { () throws(KVMError) in
        try run(plan, host: facts, cancellation: cancellation, observer: RunObserver(keep: keep))
      }
    }.get()
  }

  private static func result(
    _ plan: RunPlan, _ all: [ScenarioRuns], noGuestRuns: String?, wasCancelled: Bool
  ) -> RunResult {
    let timelines = all.flatMap(\.timelines)
    let seen = Set(timelines.map(\.history.header.scenario))
    let planned = Set(plan.scenarios)
    var verdicts: [Verdict] = []
    for rule in plan.rules {
      var verdict = rule.verdict(on: timelines)
      let isComplete = rule.scenarios.allSatisfy {
        seen.contains($0.rawValue) || !planned.contains($0)
      }
      if wasCancelled, !verdict.outcome.isBroken, !isComplete || verdict.outcome.isInconclusive {
        continue
      }
      if let noGuestRuns, !verdict.outcome.isBroken, !isComplete || verdict.outcome.isInconclusive {
        verdict.outcome = .notTested(reason: "no guest runs: \(noGuestRuns)")
      }
      verdicts.append(verdict)
    }
    return RunResult(
      verdicts: verdicts, timings: all.flatMap(\.timings),
      retries: all.reduce(0) { $0 + max(0, $1.timings.count - 1) }, wasCancelled: wasCancelled,
      noGuestRuns: noGuestRuns)
  }
}

/// Says which verdicts are final, as scenario after scenario ends.
private struct Judging {
  let plan: RunPlan
  let observer: RunObserver
  private(set) var all: [ScenarioRuns] = []
  private var open: [Rule]
  private var missing: Set<String>
  private var place = 0

  init(plan: RunPlan, observer: RunObserver) {
    self.plan = plan
    self.observer = observer
    open = plan.rules
    missing = Set(plan.scenarios.map(\.rawValue))
  }

  mutating func begin(_ name: ScenarioName) {
    place += 1
    observer.begins(name, place, plan.scenarios.count)
  }

  mutating func end(_ name: ScenarioName, _ runs: ScenarioRuns) {
    all.append(runs)
    missing.remove(name.rawValue)
    let broken = plan.rules.map { $0.verdict(on: runs.timelines) }.filter { $0.status == .broken }
    if !broken.isEmpty { observer.broke(broken) }
    let timelines = all.flatMap(\.timelines)
    let decided = open.filter { rule in !missing.contains(where: rule.concerns) }
    guard !decided.isEmpty else { return }
    open.removeAll { rule in !missing.contains(where: rule.concerns) }
    for rule in decided { observer.judged(rule.verdict(on: timelines)) }
  }
}

/// All runs of one scenario.
struct ScenarioRuns: Sendable {
  var timelines: [Timeline] = []
  var timings: [Timing] = []
  /// Why the last run ended, if its guest did not come back or was not entered.
  var lostGuest: MachineError?
}

/// Runs scenarios, again where a verdict asks for it.
struct Suite: Sendable {
  let plan: RunPlan
  let host: Host
  let cancellation: Cancellation

  /// Runs a scenario until every rule of the plan that it exercises has a conclusive verdict.
  func runs(of name: ScenarioName, keep: (History) -> Void) -> ScenarioRuns {
    let rules = plan.rules.filter { $0.isExercised(by: name.rawValue) }
    var runs = ScenarioRuns()
    for attempt in 1...(1 + max(0, plan.retries)) {
      let (history, nanoseconds, lostGuest) = run(name, attempt: attempt)
      keep(history)
      runs.lostGuest = lostGuest
      runs.timings.append(
        Timing(scenario: name.rawValue, attempt: attempt, nanoseconds: nanoseconds))
      let timeline = Timeline(history)
      runs.timelines.append(timeline)
      let isOpen = rules.contains { $0.verdict(on: runs.timelines).outcome.isInconclusive }
      if !isOpen || timeline.failure != nil || cancellation.isCancelled { break }
    }
    return runs
  }

  func stage(named name: String, attempt: Int) -> Stage {
    Stage(
      named: name, host: host, seed: plan.seed, attempt: attempt, cancellation: cancellation,
      vcpus: plan.vcpus ?? RunPlan.usualVCPUs)
  }

  /// A history that says why there is none.
  func left(out name: ScenarioName, because omission: Action) -> ScenarioRuns {
    let stage = stage(named: name.rawValue, attempt: 1)
    stage.note(omission)
    return ScenarioRuns(timelines: [Timeline(stage.history)])
  }

  private func perform(_ scenario: Scenario, on stage: Stage) throws {
    guard scenario.name.changesHost else { return try scenario.script(stage) }
    let keeper = try HostKeeper(plan.restorer)
    defer { for problem in keeper.restore() { stage.note(.failed(reason: problem)) } }
    try scenario.script(stage)
  }

  private func run(_ name: ScenarioName, attempt: Int) -> (
    History, UInt64, lostGuest: MachineError?
  ) {
    let began = Moment.before().raw
    let state = HostState.now()
    let stage = stage(named: name.rawValue, attempt: attempt)
    var lostGuest: MachineError?
    // The facts may be of a minute ago.
    stage.history.header.host.clocksource = state.clocksource
    do {
      try perform(Scenario.named(name), on: stage)
    } catch {
      stage.noteFailure(error)
      lostGuest = (error as? MachineError).flatMap { $0.isLostGuest ? $0 : nil }
    }
    stage.dropMachine()
    if let change = HostState.now().change(since: state) { stage.note(.disturbed(how: change)) }
    return (stage.history, Moment.after().raw - began, lostGuest)
  }
}

/// One scenario on a thread of its own.
private final class BackgroundRuns: @unchecked Sendable {
  let name: ScenarioName
  private let worker: WorkerThread
  private var runs = ScenarioRuns()

  init(_ suite: Suite, _ name: ScenarioName) throws(MachineError) {
    self.name = name
    worker = try WorkerThread(name: name.rawValue)
    worker.begin { [self] in runs = suite.runs(of: name) { _ in } }
  }

  func finish() -> ScenarioRuns {
    while !worker.isDone(within: 1000) {}
    worker.stop()
    return runs
  }
}
