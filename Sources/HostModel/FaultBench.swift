public import ABIChecker
public import KVM
public import Scenarios

/// Runs faults, and looks which rules break.
public struct FaultBench: Sendable {
  let facts: HostFacts
  let device: String
  let seed: UInt64
  let cancellation: Cancellation

  public init(
    facts: HostFacts, device: String = "/dev/kvm", seed: UInt64,
    cancellation: Cancellation = Cancellation()
  ) {
    self.facts = facts
    self.device = device
    self.seed = seed
    self.cancellation = cancellation
  }

  /// - Throws: `KVMError` if the device can't be used at all.
  public func run(_ fault: Fault) throws(KVMError) -> FaultResult {
    var broke: Set<String> = []
    var tries = 0
    repeat {
      tries += 1
      broke.formUnion(try broken(by: fault))
    } while tries < fault.tries && !broke.isSuperset(of: fault.rules) && !cancellation.isCancelled
    return FaultResult(
      id: fault.id, meaning: fault.meaning, expected: fault.rules, also: fault.also,
      reason: fault.reason, broke: Rule.all.map(\.id).filter(broke.contains), tries: tries)
  }

  public func run(_ graded: GradedFault) throws(KVMError) -> GradedResult {
    var caught: [Bool] = []
    for size in graded.sizes {
      let fault = Fault(
        graded.id, breaks: graded.rules, tries: graded.tries, graded.meaning
      ) { graded.deviate(&$0, size) }
      caught.append(!Set(try run(fault).broke).isDisjoint(with: graded.rules))
    }
    return GradedResult(
      id: graded.id, meaning: graded.meaning, unit: graded.unit, rules: graded.rules,
      sizes: graded.sizes, caught: caught, mustCatch: graded.mustCatch)
  }

  private func broken(by fault: Fault) throws(KVMError) -> Set<String> {
    let rules = fault.rules.compactMap(Rule.named)
    let judge = FaultJudge(rules: rules)
    switch fault.change {
    case .model(let deviation):
      let faulty = try record(rules, .model(facts, .keep, deviation, name: fault.id))
      // What an observation is worth: what a sound host shows has to be the same twice.
      var sound: [[History]] = []
      if rules.contains(where: \.isObservation) {
        for _ in 0..<2 { sound.append(try record(rules, .model(facts))) }
      }
      return judge.broken(faulty, sound: sound)
    case .clock(let maker):
      return judge.broken(try record(rules, maker), sound: [try record(rules, nil)])
    }
  }

  /// What the scenarios leave that exercise these rules; of several that exercise the same one, the first.
  private func record(_ rules: [Rule], _ clock: ClockMaker?) throws(KVMError) -> [History] {
    var plan = RunPlan(rules: rules, seed: seed, device: device)
    plan.clock = clock
    var histories: [History] = []
    for name in ScenarioName.allCases
    where rules.compactMap(\.scenarios.first).contains(name) {
      histories += try Runner.record(name, plan, host: facts, cancellation: cancellation)
    }
    return histories
  }
}

/// Compares what rules say of faulty histories and of sound ones.
private struct FaultJudge {
  /// Those that a fault is for.
  let rules: [Rule]

  /// The rules that are broken on the faulty ones and not on the sound ones; of observations only those that the fault is for, and that have
  /// another value than all sound ones, which agree.
  func broken(_ faulty: [History], sound: [[History]]) -> Set<String> {
    let faulty = faulty.map(Timeline.init)
    let sound = sound.map { $0.map(Timeline.init) }
    let isFor = Set(rules.map(\.id))
    var broken: Set<String> = []
    for rule in Rule.ofKVM {
      let outcome = rule.verdict(on: faulty).outcome
      if outcome.isBroken {
        // A rule that was not tested before has not been broken by the fault.
        let usual = sound.map { rule.verdict(on: $0).outcome }
        if usual.allSatisfy({ isFor.contains(rule.id) ? $0.holds : !$0.isBroken }) {
          broken.insert(rule.id)
        }
      } else if rule.isObservation, isFor.contains(rule.id) {
        let usual = Set(sound.map { rule.verdict(on: $0).outcome })
        if usual.count == 1, case .observed? = usual.first, case .observed = outcome,
          !usual.contains(outcome)
        {
          broken.insert(rule.id)
        }
      }
    }
    return broken
  }
}

extension Outcome {
  var holds: Bool { if case .holds = self { true } else { false } }
}
