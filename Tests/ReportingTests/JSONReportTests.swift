import ABIChecker
import Foundation
import Testing

@testable import Reporting

@Suite struct JSONReportTests {
  private func decoded(_ report: Report) throws -> ReportDocument {
    try JSONDecoder().decode(ReportDocument.self, from: Data(JSONReport(report).text.utf8))
  }

  @Test func aReportForProgramsReadsLikeThis() throws {
    var report = Samples.report
    report.verdicts = [Samples.verdicts[1]]
    if case .broken(let violations) = report.verdicts[0].outcome {
      report.verdicts[0].outcome = .broken(violations: [violations[0]])
    }
    report.hostname = "node1"
    report.date = "2026-11-25T02:35:00Z"
    report.timings = [ScenarioTiming(scenario: "version", attempt: 1, nanoseconds: 4_999_999)]
    let even = try #require(Rule.named("VERSION-EVEN"))
    #expect(
      JSONReport(report).text == """
        {
          "counts" : {
            "broken" : 1,
            "differs" : 0,
            "holds" : 0,
            "inconclusive" : 0,
            "known" : 0,
            "notOwed" : 0,
            "notTested" : 0,
            "observed" : 0
          },
          "date" : "2026-11-25T02:35:00Z",
          "exitStatus" : 1,
          "format" : "kvmclock-report",
          "host" : {
            "backend" : "kvm_intel",
            "clocksource" : "tsc",
            "kernel" : "6.1.0-test",
            "tscKHz" : 2000000
          },
          "hostname" : "node1",
          "kvmclock" : "0.1.0",
          "nanoseconds" : 1324999999,
          "notes" : [

          ],
          "planned" : 5,
          "retries" : 2,
          "seed" : 42,
          "strict" : false,
          "timings" : [
            {
              "attempt" : 1,
              "nanoseconds" : 4999999,
              "scenario" : "version"
            }
          ],
          "verdicts" : [
            {
              "repeat" : "kvmclock run VERSION-EVEN --scenario version --seed 42",
              "rule" : "VERSION-EVEN",
              "scenario" : "version",
              "source" : "\(even.source)",
              "statement" : "\(even.statement)",
              "summary" : "1 violation",
              "topic" : "The version protocol",
              "verdict" : "broken",
              "violations" : [
                {
                  "events" : [
                    4,
                    5
                  ],
                  "expected" : "version 2",
                  "files" : [
                    "out/version.1.kvmclock.jsonl"
                  ],
                  "history" : "version",
                  "seen" : "version 3, which is odd"
                }
              ]
            }
          ],
          "version" : 1
        }

        """)
  }

  @Test func everyVerdictHasTheWordOfTheTextReport() throws {
    let document = try decoded(Samples.report)
    #expect(
      document.verdicts.map(\.verdict) == [.holds, .broken, .known, .notTested, .inconclusive])
    #expect(document.verdicts[2].known?.shows == true)
    #expect(document.verdicts[3].summary == "no leaf\n# ok 5 \\ 0x40000000")
    #expect(document.exitStatus == 1)
  }

  @Test func aKnownDeviationThatDoesNotShowIsTold() throws {
    var report = Samples.report
    report.verdicts = [
      Verdict(
        rule: "RATE-RAW", outcome: .holds(evidence: "2 rates"), known: Samples.verdicts[2].known,
        scenario: "rate")
    ]
    let document = try decoded(report)
    #expect(document.verdicts[0].verdict == .holds)
    #expect(document.verdicts[0].known?.shows == false)
  }

  @Test func numbersOf64BitsSurvive() throws {
    var report = Samples.report
    report.seed = .max
    report.nanoseconds = .max
    let document = try decoded(report)
    #expect(document.seed == .max && document.nanoseconds == .max)
  }
}

@Suite struct ReportFormatTests {
  @Test(arguments: [
    ("a.json", ReportFormat.json), ("./out/b.ktap", .ktap), ("/tmp/c.d.txt", .text),
    ("a.xml", .junit), ("README.md", .markdown), ("a.jsonl", .jsonl), ("json", nil), (".json", nil),
    ("out/.json", nil), ("a.json/", nil),
    ("a.JSON", nil), ("", nil), ("out.json/a", nil),
  ])
  func aFilesEndingNamesItsFormat(path: String, format: ReportFormat?) {
    #expect(ReportFormat(path: path) == format)
  }
}
