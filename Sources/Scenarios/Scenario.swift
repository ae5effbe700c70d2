internal import ABIChecker

/// A short script that drives machines. It judges nothing; it records.
struct Scenario: Sendable {
  let name: ScenarioName
  let script: @Sendable (Stage) throws -> Void

  /// Every scenario, by its name in the history and in the rules.
  static func named(_ name: ScenarioName) -> Scenario {
    let script: @Sendable (Stage) throws -> Void =
      switch name {
      case .discovery: discovery
      case .registration: registration
      case .rewrite: rewrite
      case .storm: storm
      case .readback: readback
      case .freeze: freeze
      case .version: version
      case .setClock: setClock
      case .rate: rate
      case .oldMSR: oldMSR
      case .oldMSRElsewhere: oldMSRElsewhere
      case .cpuid24: cpuid24
      case .replug: replug
      case .scheduleOffset: scheduleOffset
      case .modes: modes
      case .rewriter: rewriter
      case .schedclock: schedclock
      case .tscOffset: tscOffset
      case .tscWrite: tscWrite
      case .tscAdjust: tscAdjust
      case .tscFrequency: tscFrequency
      }
    return Scenario(name: name, script: script)
  }
}
