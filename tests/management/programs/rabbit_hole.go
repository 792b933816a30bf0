// Begins the specs of rabbit-hole, in the place of its own file that does so, and prints a line for each.
package rabbithole

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/onsi/ginkgo"
	"github.com/onsi/ginkgo/config"
	"github.com/onsi/ginkgo/types"
	"github.com/onsi/gomega"
)

// How long the specs wait for what they have done to be in the answers.
var wait, _ = time.ParseDuration(os.Getenv("WAIT_MS") + "ms")

type lines struct{}

func (lines) SpecSuiteWillBegin(config.GinkgoConfigType, *types.SuiteSummary) {}
func (lines) BeforeSuiteDidRun(*types.SetupSummary)                           {}
func (lines) SpecWillRun(*types.SpecSummary)                                  {}
func (lines) AfterSuiteDidRun(*types.SetupSummary)                            {}
func (lines) SpecSuiteDidEnd(*types.SuiteSummary)                             {}

func (lines) SpecDidComplete(spec *types.SpecSummary) {
	// The first text is the whole file's.
	name := strings.Join(spec.ComponentTexts[2:], " ")
	switch {
	case spec.Passed():
		fmt.Printf("passed\t%s\n", name)
	case spec.HasFailureState():
		failure := strings.Join(strings.Fields(spec.Failure.Message), " ")
		fmt.Printf("failed\t%s\t%s: %s\n", name, spec.Failure.Location.String(), failure)
	}
}

// What failed is in the lines.
type verdict struct{}

func (verdict) Fail() {}

func TestRabbitHole(*testing.T) {
	for _, name := range strings.Split(os.Getenv("LEFT_OUT"), "\n") {
		if name != "" {
			config.GinkgoConfig.SkipStrings = append(config.GinkgoConfig.SkipStrings, regexp.QuoteMeta(name))
		}
	}
	gomega.RegisterFailHandler(ginkgo.Fail)
	ginkgo.RunSpecsWithCustomReporters(verdict{}, "rabbit-hole", []ginkgo.Reporter{lines{}})
}
