import Foundation

/// Random input (SplitMix64), the same in each run: a red test is the fault of a change, not of luck. It takes the seed of
/// `ABICHECKER_TEST_SEED`, where "random" is a new one for each test. The seed is printed.
struct SeededGenerator: RandomNumberGenerator {
  private var state: UInt64

  /// The seed is in the failure's text wherever `seed` is; printed, it also survives a trap.
  let seed: UInt64

  init(for test: String = #function) {
    let given = ProcessInfo.processInfo.environment["ABICHECKER_TEST_SEED"] ?? "1"
    self.init(seed: UInt64(given) ?? .random(in: 0...UInt64.max))
    print("\(test): ABICHECKER_TEST_SEED=\(seed)")
  }

  init(seed: UInt64) {
    self.seed = seed
    state = seed
  }

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var word = state
    word = (word ^ (word >> 30)) &* 0xbf58_476d_1ce4_e5b9
    word = (word ^ (word >> 27)) &* 0x94d0_49bb_1331_11eb
    return word ^ (word >> 31)
  }

  mutating func below(_ limit: Int) -> Int { Int.random(in: 0..<limit, using: &self) }

  mutating func chance(_ one: Int) -> Bool { below(one) == 0 }

  mutating func pick<Choice>(_ choices: [Choice]) -> Choice { choices[below(choices.count)] }
}
