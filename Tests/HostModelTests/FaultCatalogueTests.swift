import ABIChecker
import Foundation
import Testing

@testable import HostModel
@testable import VMM

/// The catalogue of faults, as far as it can be looked at without KVM.
@Suite struct FaultCatalogueTests {
  @Test func whatWasNeverSeenToFailIsWhatNoFaultNoMutantAndNoDeviationBreaks() throws {
    let seen = Set(
      Fault.all.flatMap(\.rules) + GradedFault.all.flatMap(\.rules)
        + KnownDeviation.table.map(\.rule) + ToyFault.allCases.flatMap(\.breaks)
        + (try rulesOfMutants()))
    #expect(seen.filter { Rule.named($0) == nil } == [])
    #expect(Rule.neverSeenToFail == Rule.all.map(\.id).filter { !seen.contains($0) })
  }

  /// What the mutants of the lab are for.
  private func rulesOfMutants() throws -> [String] {
    let folder = URL(filePath: #filePath).deletingLastPathComponent()
      .appending(path: "../../lab/mutants")
    let names = try FileManager.default.contentsOfDirectory(atPath: folder.path)
    let texts = try names.filter { $0.hasSuffix(".edit") }.map {
      try String(contentsOf: folder.appending(path: $0), encoding: .utf8)
    }
    return try texts.flatMap { text in
      let line = try #require(text.split(separator: "\n").first { $0.hasPrefix("rules:") })
      return line.dropFirst(6).split(separator: " ").map(String.init)
    }
  }

  @Test func faultsNameRulesThatExistAndSayWhyOthersBreak() {
    #expect(Set(Fault.all.map(\.id)).count == Fault.all.count)
    for fault in Fault.all {
      #expect(!fault.rules.isEmpty && !fault.meaning.isEmpty, "\(fault.id)")
      for rule in fault.rules + fault.also {
        #expect(Rule.named(rule) != nil, "\(fault.id) \(rule)")
      }
      #expect(fault.also.isEmpty == fault.reason.isEmpty, "\(fault.id)")
      #expect(Set(fault.rules).isDisjoint(with: fault.also), "\(fault.id)")
    }
  }
}
