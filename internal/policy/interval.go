package policy

import (
	"math"
	"strings"
	"time"
)

// An interval that nobody names is chosen: often enough that a crash costs
// little, seldom enough that the checkpoints do.
const (
	ChosenMin   = time.Second      // no interval that is chosen is shorter
	ChosenMax   = time.Hour        // or longer
	besideShare = 0.1              // of what a commit takes while the program runs
	costShare   = 0.2              // of the last checkpoint in what they cost
	chosenStep  = 1.25             // times longer or shorter than the last one
	priorTime   = 24 * time.Hour   // one crash a day, as long as nothing is known
	soonPart    = 4                // the part of the interval that is left right after a crash
	soonOver    = 10 * time.Minute // until it is whole again
)

// Optimum returns the interval, from the start of one checkpoint to that of the
// next, that leaves most time to a program when each checkpoint costs so much
// and crashes are so far apart:
//
//	sqrt(2cm) (1 + sqrt(c/2m)/3 + (c/2m)/9) when c < 2m, else m + c
//
// (J. T. Daly, A higher order estimate of the optimum checkpoint interval for
// restart dumps, Future Generation Computer Systems 22 (2006), equation 37, which
// tells the time between two checkpoints: the checkpoint is added here. Its first
// term is J. W. Young's, Communications of the ACM 17 (1974).) It is not
// bounded.
func Optimum(cost, between time.Duration) time.Duration {
	c, m := cost.Seconds(), between.Seconds()
	if c >= 2*m {
		return cost + between
	}
	x := math.Sqrt(c / (2 * m))
	return time.Duration(math.Sqrt(2*c*m) * (1 + x/3 + x*x/9) * float64(time.Second))
}

// Between returns the mean time between crashes of a program that lived for so
// long and crashed so often, with the crash of one more day before that.
func Between(lived time.Duration, crashes int) time.Duration {
	return (max(0, lived) + priorTime) / time.Duration(max(0, crashes)+1)
}

// Chosen is an interval that is chosen, and what it is chosen by. The zero
// Chosen begins with the shortest.
type Chosen struct {
	Every time.Duration
	Cost  time.Duration // of a checkpoint, as the last ones went
}

// String is the text that ParseChosen reads.
func (c Chosen) String() string { return c.Every.String() + " " + c.Cost.String() }

// ParseChosen reads what String wrote; anything else is the zero Chosen.
func ParseChosen(text string) Chosen {
	every, cost, _ := strings.Cut(text, " ")
	e, err1 := time.ParseDuration(every)
	c, err2 := time.ParseDuration(cost)
	if err1 != nil || err2 != nil {
		return Chosen{}
	}
	return Chosen{Every: e, Cost: c}
}

// Next returns the interval after a checkpoint for which the program stood
// still for pause, and which took took in all: the pause counts whole, and of
// the rest, beside which the program runs, a tenth. No interval is more than a
// quarter longer than the last one, or a fifth shorter.
func (c Chosen) Next(pause, took, between time.Duration) Chosen {
	cost := max(0, pause) + time.Duration(besideShare*float64(max(0, took-pause)))
	if c.Cost > 0 {
		cost = c.Cost + time.Duration(costShare*float64(cost-c.Cost))
	}
	last := max(c.Every, ChosenMin)
	step := func(f float64) time.Duration { return time.Duration(float64(last) * f) }
	every := min(max(Optimum(cost, between), step(1/chosenStep)), step(chosenStep))
	return Chosen{Every: min(max(every, ChosenMin), ChosenMax), Cost: cost}
}

// Sooner returns the interval that is in force when a program has lived for so
// long since it came back from a crash: a quarter at first, since what struck
// once may strike again, and the whole one after ten minutes.
func Sooner(every, lived time.Duration) time.Duration {
	part := min(max(0, lived.Seconds()/soonOver.Seconds()), 1)
	return every/soonPart + time.Duration(part*float64(every-every/soonPart))
}
